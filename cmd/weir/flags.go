package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// cli is the command line. A flag that stands for a path of the configuration
// is a pointer, so that an empty value differs from none.
type cli struct {
	ConfigFile  string   `name:"config.file" placeholder:"FILE" help:"YAML configuration; without it every default applies."`
	Target      *string  `name:"target" placeholder:"all" help:"Components to run."`
	DataDir     *string  `name:"data.dir" placeholder:"./data" help:"Where samples are kept."`
	HTTPListen  *string  `name:"http.listen" placeholder:"ADDR" help:"Address of the write, query and operations endpoints. Default 127.0.0.1:9009, or :9009 when auth.mode is not none."`
	AdminListen *string  `name:"admin.listen" placeholder:"127.0.0.1:9010" help:"Address of the profiling endpoints; empty for none."`
	TenantsFile *string  `name:"tenants.file" placeholder:"FILE" help:"Plans, tenants and credentials, read again when it changes."`
	LogLevel    *string  `name:"log.level" placeholder:"info" help:"debug, info, warn or error."`
	LogFormat   *string  `name:"log.format" placeholder:"logfmt" help:"logfmt or json."`
	Set         []string `name:"set" sep:"none" placeholder:"PATH=VALUE" help:"Set any path of the configuration, such as limits.out_of_order_window=30m. Repeatable."`
	ShowVersion bool     `name:"version" help:"Print the version and exit."`

	Run    struct{} `cmd:"" default:"1" help:"Receive, store and query (the default)."`
	Config struct {
		Check struct{} `cmd:"" help:"Report every violation in the configuration."`
		Print struct{} `cmd:"" help:"Print the configuration that would run."`
	} `cmd:"" help:"Look at the configuration."`
	Explain    explainFlags    `cmd:"" help:"Say why samples are missing, by asking a weir that runs."`
	Quarantine quarantineFlags `cmd:"" help:"Look at metrics that one label makes explode, in a weir that runs."`
	Rules      struct {
		Test struct {
			Files []string `arg:"" name:"file" help:"YAML with metric_relabel_configs, redact, tests ... as a tenant has them."`
		} `cmd:"" help:"Run the tests in files of relabel rules."`
	} `cmd:"" help:"Look at relabel rules."`
	Version struct{} `cmd:"" help:"Print the version."`

	tenantCommands
}

// assignments are the -set flags, then the named ones, which win.
func (c *cli) assignments() ([]assignment, error) {
	var list []assignment
	var errs []error
	for _, s := range c.Set {
		path, value, ok := strings.Cut(s, "=")
		if !ok {
			errs = append(errs, fmt.Errorf("-set %s: must be path=value", s))
			continue
		}
		list = append(list, assignment{"-set", path, value})
	}
	named := func(flag, path string, value *string) {
		if value != nil {
			list = append(list, assignment{flag, path, *value})
		}
	}
	named("-target", "target", c.Target)
	named("-data.dir", "data_dir", c.DataDir)
	named("-http.listen", "http.listen", c.HTTPListen)
	named("-admin.listen", "http.admin_listen", c.AdminListen)
	named("-tenants.file", "tenants.file", c.TenantsFile)
	named("-log.level", "log.level", c.LogLevel)
	named("-log.format", "log.format", c.LogFormat)
	return list, errors.Join(errs...)
}

// shown is the command line as the status pages show it: every flag with the
// value in force. Of -set there are only the paths: a value may be a secret.
func (c *cli) shown(cfg Config) map[string]string {
	paths := make([]string, 0, len(c.Set))
	for _, s := range c.Set {
		path, _, _ := strings.Cut(s, "=")
		paths = append(paths, path)
	}
	return map[string]string{
		"config.file":  c.ConfigFile,
		"target":       cfg.Target,
		"data.dir":     cfg.DataDir,
		"http.listen":  cfg.HTTP.Listen,
		"admin.listen": cfg.HTTP.AdminListen,
		"tenants.file": cfg.Tenants.File,
		"log.level":    cfg.Log.Level,
		"log.format":   cfg.Log.Format,
		"set":          strings.Join(paths, ","),
	}
}

// parseArgs returns the command line and the name of its command; an empty name
// says that all was answered, such as -help.
func parseArgs(args []string, stdout, stderr io.Writer) (*cli, string, error) {
	c := &cli{}
	answered := false
	parser, err := kong.New(c,
		kong.Name("weir"),
		kong.Description("A multi-tenant receiver and store for Prometheus metrics."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { answered = true }),
		kong.Help(singleDashHelp),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		return nil, "", fmt.Errorf("build the command line parser: %w", err)
	}
	parsed, err := parser.Parse(doubleDashes(args))
	switch {
	case answered:
		return c, "", nil
	case err != nil:
		return nil, "", errors.New(strings.ReplaceAll(err.Error(), "--", "-"))
	case c.ShowVersion:
		return c, "version", nil
	}
	command, _, _ := strings.Cut(parsed.Command(), " <") // its arguments are in c
	return c, command, nil
}

// doubleDashes turns -config.file into --config.file: people type the flags of
// Prometheus programs with one dash or two, kong takes two.
func doubleDashes(args []string) []string {
	out := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if len(arg) > 2 && arg[0] == '-' && arg[1] != '-' {
			arg = "-" + arg
		}
		out = append(out, arg)
	}
	return out
}

// singleDashHelp is kong's help with the flags as we write them.
func singleDashHelp(options kong.HelpOptions, ctx *kong.Context) error {
	var text strings.Builder
	out := ctx.Stdout
	ctx.Stdout = &text
	err := kong.DefaultHelpPrinter(options, ctx)
	ctx.Stdout = out
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, strings.ReplaceAll(text.String(), "--", "-"))
	return err
}
