package section

import (
	"fmt"
	"strings"
)

// Table is a table of Markdown. The first column is text, the others are figures.
type Table struct{ rows [][]string }

// NewTable makes a table with its head.
func NewTable(head ...string) *Table { return &Table{rows: [][]string{head}} }

// Row appends a row. It must have as many cells as the head.
func (t *Table) Row(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	t.rows = append(t.rows, row)
}

// String is the table, with a line end after each row.
func (t *Table) String() string {
	var b strings.Builder
	for i, row := range t.rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString("|---" + strings.Repeat("|---:", len(row)-1) + "|\n")
		}
	}
	return b.String()
}
