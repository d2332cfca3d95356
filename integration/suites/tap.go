// The nine methods of github.com/mndrix/tap-go that runtime-tools' validation programs
// use: that library is in no Debian package.
package tap

import (
	"encoding/json"
	"fmt"
	"strings"
)

type T struct {
	n    *int
	todo bool
}

func New() *T { return &T{n: new(int)} }

// Todo gives a copy whose results count as TODO.
func (t *T) Todo() *T { return &T{n: t.n, todo: true} }

func (t *T) Header(count int) {
	fmt.Println("TAP version 13")
	if count > 0 {
		fmt.Printf("1..%d\n", count)
	}
}

func (t *T) Ok(ok bool, desc string) {
	*t.n++
	r := "ok"
	if !ok {
		r = "not ok"
	}
	sep := "-"
	if t.todo {
		sep = "# TODO"
	}
	fmt.Printf("%s %d %s %s\n", r, *t.n, sep, desc)
}

func (t *T) Fail(desc string) { t.Ok(false, desc) }
func (t *T) Pass(desc string) { t.Ok(true, desc) }

func (t *T) Skip(count int, desc string) {
	for ; count > 0; count-- {
		*t.n++
		fmt.Printf("ok %d # SKIP %s\n", *t.n, desc)
	}
}

func (t *T) AutoPlan() { fmt.Printf("1..%d\n", *t.n) }

func (t *T) Diagnostic(msg string) {
	fmt.Println("# " + strings.ReplaceAll(strings.TrimRight(msg, "\n"), "\n", "\n# "))
}

func (t *T) Diagnosticf(f string, a ...interface{}) { t.Diagnostic(fmt.Sprintf(f, a...)) }

func (t *T) YAML(v interface{}) error {
	b, err := json.MarshalIndent(v, "  ", "  ")
	if err != nil {
		return err
	}
	fmt.Printf("  ---\n  %s\n  ...\n", b)
	return nil
}
