package apiserver

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// linkAttributes are the attributes whose value is a URL, as upstream's proxy rewrites them.
var linkAttributes = map[atom.Atom][]string{
	atom.A: {"href"}, atom.Applet: {"codebase"}, atom.Area: {"href"}, atom.Audio: {"src"}, atom.Base: {"href"},
	atom.Blockquote: {"cite"}, atom.Body: {"background"}, atom.Button: {"formaction"}, atom.Command: {"icon"}, atom.Del: {"cite"},
	atom.Embed: {"src"}, atom.Form: {"action"}, atom.Frame: {"longdesc", "src"}, atom.Head: {"profile"}, atom.Html: {"manifest"},
	atom.Iframe: {"longdesc", "src"}, atom.Img: {"longdesc", "src", "usemap"}, atom.Input: {"src", "usemap", "formaction"},
	atom.Ins: {"cite"}, atom.Link: {"href"}, atom.Object: {"classid", "codebase", "data", "usemap"}, atom.Q: {"cite"},
	atom.Script: {"src"}, atom.Source: {"src"}, atom.Video: {"poster", "src"},
}

// maxTag bounds one piece of a page. A page with a longer one breaks off.
const maxTag = 1 << 20

// rewritePage makes the links of an HTML page lead through here, while it is passed on. Compressed pages stay as they are.
func rewritePage(r *http.Response, through func(*url.URL)) {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if strings.TrimSpace(media) != "text/html" || r.Header.Get("Content-Encoding") != "" || r.Request.Method == http.MethodHead {
		return
	}
	page := r.Body
	out, in := io.Pipe()
	go func() { _ = in.CloseWithError(rewriteLinks(in, page, through)) }() // ends with the page, or when out is closed
	r.Body = struct {
		io.Reader
		io.Closer
	}{out, closers{out, page}}
	r.Header.Del("Content-Length")
	r.ContentLength = -1
}

type closers []io.Closer

// Close closes all of them.
func (c closers) Close() error {
	var errs []error
	for _, each := range c {
		errs = append(errs, each.Close())
	}
	return errors.Join(errs...)
}

func rewriteLinks(w io.Writer, page io.Reader, through func(*url.URL)) error {
	z := html.NewTokenizer(page)
	z.SetMaxBuf(maxTag)
	for {
		kind := z.Next()
		piece := z.Raw()
		if kind == html.ErrorToken {
			if errors.Is(z.Err(), io.EOF) {
				return nil
			}
			return z.Err()
		}
		if kind == html.StartTagToken || kind == html.SelfClosingTagToken {
			piece = slices.Clone(piece) // Token spoils it
			if token := z.Token(); relink(&token, through) {
				piece = []byte(token.String())
			}
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
}

// relink reports whether a tag has a link that was changed.
func relink(tag *html.Token, through func(*url.URL)) (changed bool) {
	for i := range tag.Attr {
		a := &tag.Attr[i]
		if !slices.Contains(linkAttributes[tag.DataAtom], a.Key) {
			continue
		}
		link, err := url.Parse(a.Val)
		if err != nil {
			continue
		}
		through(link)
		if text := link.String(); text != a.Val {
			a.Val, changed = text, true
		}
	}
	return changed
}
