package api

import (
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/strutil"

	"github.com/weir-metrics/weir/proto"
)

// The parser, the type checker and the engine recurse over a query, compile its
// regular expressions and allocate by its steps without asking how much that
// is. So a query passes three looks, each a pure function, each before the work
// that it bounds:
//
//	textCheck   tokens, before the parser: length, nesting, lists, regular expressions
//	checkExpr   the tree, before the engine has it: matchers, growth of labels
//	checkWork   the statement, before its evaluation: steps and times (work.go)
//
// What only the data can tell is counted while it is read: samples by the
// engine, series and chunks by the querier.

const (
	// maxNesting is how deep the tree of a query may be. Goroutine stacks grow
	// by some kilobytes per level while it is evaluated, and the type checker
	// looks at every subtree once per level above it.
	maxNesting = 500
	// maxListItems bounds lists in parentheses: arguments, and labels of by, on
	// and group_left, of which the type checker compares every pair. A series
	// has no more labels by default.
	maxListItems = 64
	// maxNameBytes bounds names outside of quotes, which error messages repeat
	// for each matcher. It is far more than limits allow a label to have.
	maxNameBytes = 4096
	// maxLabelGrowth bounds how many copies of a label value nested label_replace
	// and label_join can put into one label: each can double it.
	maxLabelGrowth = 256
)

// limitedParser parses what is within limits. The engine, too, has it for its
// parser, so that no way to the parser leads around it.
type limitedParser struct {
	parser.Parser
	limits textLimits
}

// textLimits are those of Config that can be told from the text of a request.
type textLimits struct{ queryBytes, matchers, regexpBytes int }

func (c Config) textLimits() textLimits {
	return textLimits{c.MaxQueryBytes, c.MaxMatchers, c.MaxRegexpBytes}
}

// ParseExpr implements parser.Parser.
func (p limitedParser) ParseExpr(text string) (parser.Expr, error) {
	check := textCheck{limits: p.limits}
	if err := check.text(text); err != nil {
		return nil, err
	}
	expr, err := p.Parser.ParseExpr(text)
	if err != nil {
		return nil, err
	}
	if _, err := check.expr(expr); err != nil {
		return nil, err
	}
	return expr, nil
}

// ParseMetricSelector implements parser.Parser.
func (p limitedParser) ParseMetricSelector(text string) ([]*labels.Matcher, error) {
	sets, err := p.ParseMetricSelectors([]string{text})
	if err != nil {
		return nil, err
	}
	return sets[0], nil
}

// ParseMetricSelectors implements parser.Parser. The limits hold for all
// selectors together.
func (p limitedParser) ParseMetricSelectors(texts []string) ([][]*labels.Matcher, error) {
	check := textCheck{limits: p.limits}
	for _, text := range texts {
		if err := check.text(text); err != nil {
			return nil, err
		}
	}
	sets, err := p.Parser.ParseMetricSelectors(texts)
	if err != nil {
		return nil, err
	}
	for _, set := range sets {
		if err := check.selector(set); err != nil {
			return nil, err
		}
	}
	return sets, nil
}

// textCheck adds up what the texts of one request ask for.
type textCheck struct {
	limits   textLimits
	bytes    int
	regexps  int // size of all regular expressions
	matchers int

	levels []level // of what is open now, the outermost first
}

// level is what was read of one pair of parentheses, brackets or braces, or of
// the whole text.
type level struct {
	operators int  // of the list's current item: each can be a level of the tree
	below     int  // levels of the deepest item inside the current one
	deepest   int  // levels of the deepest of the items before
	items     int  // before the current one
	braces    bool // names and strings in it are of matchers
}

func (l *level) depth() int { return max(l.deepest, l.operators+l.below) }

// text refuses a text that would cost the parser or the compiler of regular
// expressions too much. It says nothing about syntax: at the first thing that
// is no token it ends, as the parser will.
func (c *textCheck) text(text string) error {
	c.bytes += len(text)
	if c.bytes > c.limits.queryBytes {
		return tooLong(c.limits.queryBytes)
	}
	c.levels = append(c.levels[:0], level{})
	lexer := parser.Lex(text)
	var previous, item parser.Item
	for {
		lexer.NextItem(&item)
		switch item.Typ {
		case parser.EOF, parser.ERROR:
			return nil
		case parser.COMMENT:
			continue
		}
		if err := c.token(previous, item); err != nil {
			return err
		}
		previous = item
		if top := &c.levels[len(c.levels)-1]; len(c.levels)+top.depth() > maxNesting {
			return proto.Errorf(proto.KindBadData, "weir-query-too-deep",
				"the query nests more than %d levels of parentheses and operators; split it, by recording rules for example", maxNesting)
		}
	}
}

func tooLong(limit int) error {
	return proto.Errorf(proto.KindBadData, "weir-query-too-long",
		"the query or the selectors of the request have more than %d bytes, the limit query.max_query_bytes", limit)
}

// token takes account of item, which follows previous.
func (c *textCheck) token(previous, item parser.Item) error {
	top := &c.levels[len(c.levels)-1]
	switch item.Typ {
	case parser.LEFT_PAREN, parser.LEFT_BRACKET, parser.LEFT_BRACE:
		c.levels = append(c.levels, level{braces: item.Typ == parser.LEFT_BRACE})
	case parser.RIGHT_PAREN, parser.RIGHT_BRACKET, parser.RIGHT_BRACE:
		if len(c.levels) > 1 {
			c.levels = c.levels[:len(c.levels)-1]
			below := &c.levels[len(c.levels)-1]
			below.below = max(below.below, top.depth()+1)
		}
		if item.Typ == parser.RIGHT_BRACKET { // a range selects from what is before it
			c.levels[len(c.levels)-1].operators++
		}
	case parser.COMMA:
		*top = level{deepest: top.depth(), items: top.items + 1, braces: top.braces}
		return c.list(top)
	case parser.IDENTIFIER, parser.METRIC_IDENTIFIER:
		if len(item.Val) > maxNameBytes {
			return proto.Errorf(proto.KindBadData, "weir-query-too-long",
				"the name that begins with %q has %d bytes; the limit is %d", item.Val[:32], len(item.Val), maxNameBytes)
		}
	case parser.STRING:
		if top.braces && (previous.Typ == parser.EQL_REGEX || previous.Typ == parser.NEQ_REGEX) {
			return c.regexpLiteral(item.Val)
		}
	default:
		if item.Typ.IsOperator() {
			top.operators++
		}
	}
	return nil
}

// list refuses a list that has another item after a comma, and then too many.
func (c *textCheck) list(l *level) error {
	switch {
	case l.braces && l.items >= c.limits.matchers:
		return c.tooManyMatchers()
	case !l.braces && l.items >= maxListItems:
		return proto.Errorf(proto.KindBadData, "weir-query-list-too-long",
			"a list of arguments or labels has more than %d items", maxListItems)
	}
	return nil
}

// regexpLiteral takes account of a regular expression in quotes.
func (c *textCheck) regexpLiteral(quoted string) error {
	pattern, err := strutil.Unquote(quoted)
	if err != nil {
		return nil // the parser will say so
	}
	return c.regexp(pattern)
}

// regexp takes account of a regular expression, before it is compiled.
func (c *textCheck) regexp(pattern string) error {
	c.regexps += min(regexpSize(pattern, c.limits.regexpBytes), c.limits.regexpBytes+1)
	if c.regexps > c.limits.regexpBytes {
		return proto.Errorf(proto.KindBadData, "weir-query-regexp-too-large",
			"the regular expressions of the request are longer than %d bytes with their repetitions written out, the limit query.max_regexp_bytes",
			c.limits.regexpBytes)
	}
	return nil
}

// selector takes account of the matchers of one selector.
func (c *textCheck) selector(matchers []*labels.Matcher) error {
	for _, m := range matchers {
		if m.Name == "" {
			return namelessMatcher()
		}
	}
	return c.countMatchers(len(matchers))
}

// namelessMatcher refuses a matcher that the TSDB takes for all series if it is
// alone, and fails for if it is not.
func namelessMatcher() error {
	return proto.Errorf(proto.KindBadData, "weir-matcher-invalid", "a matcher has no label name")
}

func (c *textCheck) countMatchers(n int) error {
	c.matchers += n
	if c.matchers > c.limits.matchers {
		return c.tooManyMatchers()
	}
	return nil
}

func (c *textCheck) tooManyMatchers() error {
	return proto.Errorf(proto.KindBadData, "weir-query-too-many-matchers",
		"the selectors of the request have more than %d matchers, metric names included, the limit query.max_matchers", c.limits.matchers)
}

// expr counts the matchers of a tree, and returns how many copies of a label
// value one label of its result may hold.
func (c *textCheck) expr(node parser.Node) (growth int, err error) {
	switch n := node.(type) {
	case *parser.VectorSelector:
		return 1, c.selector(n.LabelMatchers)
	case *parser.DurationExpr: // selects nothing, and has no children to iterate over
		return 1, nil
	}
	growth = 1
	for child := range parser.ChildrenIter(node) {
		g, err := c.expr(child)
		if err != nil {
			return 0, err
		}
		growth = max(growth, g)
	}
	if call, ok := node.(*parser.Call); ok {
		own, err := c.call(call)
		if err != nil {
			return 0, err
		}
		growth *= own
	}
	if growth > maxLabelGrowth {
		return 0, proto.Errorf(proto.KindBadData, "weir-query-labels-grow",
			"nested label_replace and label_join can put more than %d label values into one label", maxLabelGrowth)
	}
	return growth, nil
}

// call returns how many copies of a label value a function may put into one
// label, and takes account of its regular expression.
func (c *textCheck) call(call *parser.Call) (growth int, err error) {
	switch call.Func.Name {
	case "label_replace":
		return max(1, strings.Count(stringArg(call, 2), "$")), c.regexp(stringArg(call, 4))
	case "label_join":
		return max(1, len(call.Args)-3), nil
	}
	return 1, nil
}

// stringArg is an argument of a call that was type checked.
func stringArg(call *parser.Call, i int) string {
	arg := call.Args[i]
	for {
		switch e := arg.(type) {
		case *parser.ParenExpr:
			arg = e.Expr
		case *parser.StringLiteral:
			return e.Val
		default:
			return ""
		}
	}
}
