package dns

import (
	"errors"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	plainLimit = 512  // bytes of an answer over UDP to a client that does not say more (RFC 1035)
	udpLimit   = 1232 // bytes that no network fragments (DNS flag day 2020)
	tcpLimit   = 65535
	// packetBytes are more than anybody sends over UDP.
	packetBytes = 8192
)

// query is a question that came in.
type query struct {
	header   dnsmessage.Header
	question dnsmessage.Question
	name     string // of the question, in lower case
	size     int    // bytes that the client takes over UDP
	extended bool   // it has an OPT record, so the answer has one too
}

// errNoQuery is about bytes to which there is no answer.
var errNoQuery = errors.New("no query")

// parse reads a query. With errNoQuery it deserves no answer; with another error, FORMERR.
func parse(packet []byte) (query, error) {
	q := query{size: plainLimit}
	var p dnsmessage.Parser
	header, err := p.Start(packet)
	if err != nil || header.Response {
		return q, errNoQuery
	}
	q.header = header
	questions, err := p.AllQuestions()
	if err != nil {
		return q, err
	}
	if len(questions) != 1 {
		return q, errors.New("not one question")
	}
	q.question = questions[0]
	q.name = strings.ToLower(q.question.Name.String())
	if err := errors.Join(p.SkipAllAnswers(), p.SkipAllAuthorities()); err != nil {
		return q, err
	}
	return q, q.readOptions(&p)
}

func (q *query) readOptions(p *dnsmessage.Parser) error {
	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Type == dnsmessage.TypeOPT {
			q.extended, q.size = true, max(plainLimit, min(int(h.Class), udpLimit))
		}
		if err := p.SkipAdditional(); err != nil {
			return err
		}
	}
}

// answer is what is said to a query.
type answer struct {
	code          dnsmessage.RCode
	authoritative bool
	records       []dnsmessage.Resource
}

// pack makes the bytes of an answer. One longer than limit is cut to nothing and says so: the client comes back over TCP.
func (q *query) pack(a answer, limit int) ([]byte, error) {
	packed, err := q.build(a, false)
	if err == nil && len(packed) > limit {
		return q.build(answer{code: a.code, authoritative: a.authoritative}, true)
	}
	return packed, err
}

func (q *query) build(a answer, truncated bool) ([]byte, error) {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.header.ID, Response: true, OpCode: q.header.OpCode, Authoritative: a.authoritative, Truncated: truncated,
			RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true, RCode: a.code,
		},
		Answers: a.records,
	}
	if q.name != "" {
		m.Questions = []dnsmessage.Question{q.question}
	}
	if a.authoritative && len(a.records) == 0 && !truncated {
		m.Authorities = []dnsmessage.Resource{authority()}
	}
	if q.extended {
		m.Additionals = []dnsmessage.Resource{options()}
	}
	return m.Pack()
}

// authority says how long a client may remember that there is no record.
func authority() dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(domain), Class: dnsmessage.ClassINET, TTL: ttl},
		Body: &dnsmessage.SOAResource{
			NS: dnsmessage.MustNewName("ns.dns." + domain), MBox: dnsmessage.MustNewName("hostmaster." + domain),
			Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, MinTTL: ttl,
		},
	}
}

// options is the OPT record: how long a query over UDP this server takes.
func options() dnsmessage.Resource {
	h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Type: dnsmessage.TypeOPT, Class: udpLimit}
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}}
}
