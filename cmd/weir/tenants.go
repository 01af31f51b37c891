package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/common/model"

	"github.com/weir-metrics/weir/strictyaml"
	"github.com/weir-metrics/weir/tenant"
)

// tenantCommands look at the tenants file, and edit it. A running weir takes a
// new version by itself.
type tenantCommands struct {
	Tenants struct {
		Check struct {
			File string `arg:"" optional:"" help:"Instead of -tenants.file."`
		} `cmd:"" help:"Report every violation in the tenants file."`
		Rollback struct{} `cmd:"" help:"Put back the version before the last change by a command. Twice is not at all."`
	} `cmd:"" help:"Look at the tenants file as a whole."`

	Tenant struct {
		List   struct{} `cmd:"" help:"List tenants, their plans and what they set themselves."`
		Create struct {
			Tenant string `arg:""`
			Plan   string `help:"Plan that the tenant follows."`
		} `cmd:"" help:"Add a tenant."`
		Suspend struct {
			Tenant string `arg:""`
			State  string `default:"suspended" help:"held: senders repeat their writes later; read-only, write-only; or suspended, which refuses all."`
		} `cmd:"" help:"Stop serving a tenant, all or in part."`
		Resume struct {
			Tenant string `arg:""`
		} `cmd:"" help:"Serve a tenant again."`
		Delete struct {
			Tenant string `arg:""`
		} `cmd:"" help:"Remove a tenant and its credentials. Its samples stay until they are too old."`
	} `cmd:"" help:"Create, suspend and delete tenants."`

	Token struct {
		Create struct {
			Tenants []string       `arg:"" help:"Tenants that the credential owns."`
			ID      string         `help:"Name of the credential, for logs; by default the tenant and the scopes."`
			Scopes  []string       `default:"write" help:"write, read, rules, admin; with commas."`
			Expires model.Duration `help:"Lifetime of the secret, such as 90d; by default it lives for ever."`
		} `cmd:"" help:"Add a credential, and print its secret, which is nowhere kept."`
		List   struct{} `cmd:"" help:"List credentials, and when their secrets expire."`
		Revoke struct {
			Credential string `arg:""`
		} `cmd:"" help:"Remove a credential."`
		Rotate struct {
			Credential string         `arg:""`
			Grace      model.Duration `default:"24h" help:"How long the secrets before count."`
			Expires    model.Duration `help:"Lifetime of the new secret, such as 90d; by default it lives for ever."`
		} `cmd:"" help:"Give a credential a new secret, and print that."`
	} `cmd:"" help:"Create, rotate and revoke credentials."`

	Limits struct {
		Get struct {
			Tenant string `arg:""`
		} `cmd:"" help:"Print what holds for a tenant, and where each value comes from."`
		Set struct {
			Tenant string   `arg:""`
			Values []string `arg:"" placeholder:"PATH=VALUE" help:"Such as max_exemplars=1000 or state=held."`
			Plan   bool     `help:"TENANT is the name of a plan."`
		} `cmd:"" help:"Set limits of a tenant or a plan."`
		Unset struct {
			Tenant string   `arg:""`
			Paths  []string `arg:"" help:"Such as max_exemplars."`
			Plan   bool     `help:"TENANT is the name of a plan."`
		} `cmd:"" help:"Let a tenant inherit limits again."`
	} `cmd:"" help:"Look at the limits of tenants, and change them."`
}

// streams are where a command writes to.
type streams struct{ stdout, stderr io.Writer }

// tenantCommand returns what the command of that name does, or nil.
func tenantCommand(name string) func(*cli, Config, streams) error {
	return map[string]func(*cli, Config, streams) error{
		"tenants check":    (*cli).checkTenants,
		"tenants rollback": (*cli).rollBackTenants,
		"tenant list":      (*cli).listTenants,
		"tenant create":    (*cli).createTenant,
		"tenant suspend":   (*cli).suspendTenant,
		"tenant resume":    (*cli).resumeTenant,
		"tenant delete":    (*cli).deleteTenant,
		"token create":     (*cli).createToken,
		"token list":       (*cli).listTokens,
		"token revoke":     (*cli).revokeToken,
		"token rotate":     (*cli).rotateToken,
		"limits get":       (*cli).getLimits,
		"limits set":       (*cli).setLimits,
		"limits unset":     (*cli).unsetLimits,
	}[name]
}

func (c *cli) checkTenants(cfg Config, out streams) error {
	if c.Tenants.Check.File != "" {
		cfg.Tenants.File = c.Tenants.Check.File
	}
	d, err := directory(cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(out.stdout, "%s is valid: %d tenants, %d credentials\n", cfg.Tenants.File, len(d.Tenants()), len(d.DescribeCredentials()))
	return nil
}

func (c *cli) rollBackTenants(cfg Config, out streams) error {
	if cfg.Tenants.File == "" {
		return errNoTenantsFile
	}
	r, err := tenant.RollBack(cfg.Tenants, cfg.settings())
	if err != nil {
		return err
	}
	fmt.Fprintf(out.stdout, "%s is as it was before the last change: version %s in place of %s\n", cfg.Tenants.File, r.To, cmp.Or(r.From, "one that was not valid"))
	fmt.Fprintf(out.stdout, "something else holds for %d of the tenants in it\n", r.Tenants)
	if len(r.Credentials) > 0 {
		fmt.Fprintf(out.stdout, "these credentials are what they were before, with secrets that may have been revoked: %s\n", strings.Join(r.Credentials, ", "))
	}
	return nil
}

func (c *cli) listTenants(cfg Config, out streams) error {
	d, err := directory(cfg)
	if err != nil {
		return err
	}
	t := newTable(out.stdout, "TENANT", "PLAN", "STATE", "SETS ITSELF")
	for _, i := range d.Tenants() {
		t.row(i.ID, i.Plan, string(d.Settings(i.ID).State), strings.Join(i.Own, ", "))
	}
	return t.Flush()
}

func (c *cli) createTenant(cfg Config, out streams) error {
	id, plan := c.Tenant.Create.Tenant, c.Tenant.Create.Plan
	return edit(cfg, out.stdout, "tenant "+id+" created", func(e *tenant.Edit) error { return e.CreateTenant(id, plan) })
}

func (c *cli) suspendTenant(cfg Config, out streams) error {
	id, state := c.Tenant.Suspend.Tenant, tenant.State(c.Tenant.Suspend.State)
	return edit(cfg, out.stdout, "tenant "+id+" is "+string(state), func(e *tenant.Edit) error { return e.SetState(id, state) })
}

func (c *cli) resumeTenant(cfg Config, out streams) error {
	id := c.Tenant.Resume.Tenant
	return edit(cfg, out.stdout, "tenant "+id+" is active", func(e *tenant.Edit) error { return e.SetState(id, tenant.StateActive) })
}

func (c *cli) deleteTenant(cfg Config, out streams) error {
	id := c.Tenant.Delete.Tenant
	done := "tenant " + id + " deleted; its samples stay until they are too old"
	if cfg.Tenants.Unlisted == tenant.AcceptUnlisted {
		done += ".\nIt is still served, as any tenant that the file does not list: tenants.unlisted is accept"
	}
	return edit(cfg, out.stdout, done, func(e *tenant.Edit) error { return e.DeleteTenant(id) })
}

func (c *cli) createToken(cfg Config, out streams) error {
	args := c.Token.Create
	id := args.ID
	if id == "" {
		id = strings.Join(append(slices.Clone(args.Tenants), args.Scopes...), "-")
	}
	secret, hash := tenant.NewSecret()
	err := edit(cfg, out.stderr, "credential "+id+" created; its secret is nowhere kept", func(e *tenant.Edit) error {
		return e.CreateCredential(id, args.Tenants, args.Scopes, hash, after(time.Now(), args.Expires))
	})
	return out.secret(secret, err)
}

func (c *cli) listTokens(cfg Config, out streams) error {
	d, err := directory(cfg)
	if err != nil {
		return err
	}
	t := newTable(out.stdout, "CREDENTIAL", "TENANTS", "SCOPES", "SECRET", "STATE", "EXPIRES")
	for _, i := range d.DescribeCredentials() {
		for _, s := range append(i.Secrets, tenant.SecretInfo{State: "none"})[:max(len(i.Secrets), 1)] {
			expires := "never"
			if s.Expires != nil {
				expires = s.Expires.UTC().Format(time.RFC3339)
			}
			t.row(i.ID, strings.Join(i.Tenants, ","), strings.Join(i.Scopes, ","), s.Hash, s.State, expires)
		}
	}
	return t.Flush()
}

func (c *cli) revokeToken(cfg Config, out streams) error {
	id := c.Token.Revoke.Credential
	return edit(cfg, out.stdout, "credential "+id+" revoked", func(e *tenant.Edit) error { return e.RevokeCredential(id) })
}

func (c *cli) rotateToken(cfg Config, out streams) error {
	args := c.Token.Rotate
	secret, hash := tenant.NewSecret()
	now := time.Now()
	grace := now.Add(time.Duration(args.Grace))
	done := fmt.Sprintf("credential %s has another secret, which is nowhere kept; those before count until %s",
		args.Credential, grace.UTC().Format(time.RFC3339))
	err := edit(cfg, out.stderr, done, func(e *tenant.Edit) error {
		return e.RotateCredential(args.Credential, hash, after(now, args.Expires), now, grace)
	})
	return out.secret(secret, err)
}

// secret prints a secret, unless there was an error: alone on standard output, for
// scripts.
func (out streams) secret(secret string, err error) error {
	if err == nil {
		_, err = fmt.Fprintln(out.stdout, secret)
	}
	return err
}

// after returns the end of a lifetime, the zero time for none.
func after(now time.Time, lifetime model.Duration) time.Time {
	if lifetime == 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(lifetime))
}

func (c *cli) getLimits(cfg Config, out streams) error {
	d, err := directory(cfg)
	if err != nil {
		return err
	}
	e, err := d.Effective(c.Limits.Get.Tenant)
	if err != nil {
		return err
	}
	t := newTable(out.stdout, "SETTING", "VALUE", "FROM")
	for _, path := range slices.Sorted(maps.Keys(e.Origins)) {
		t.row(path, fmt.Sprint(valueAt(e.Settings, path)), e.Origins[path])
	}
	return t.Flush()
}

// valueAt returns what a tree of maps has at a path.
func valueAt(tree any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		m, _ := tree.(map[string]any)
		tree = m[key]
	}
	return tree
}

func (c *cli) setLimits(cfg Config, out streams) error {
	args := c.Limits.Set
	return edit(cfg, out.stdout, args.Tenant+" changed", func(e *tenant.Edit) error {
		for _, v := range args.Values {
			path, value, ok := strings.Cut(v, "=")
			if !ok {
				return fmt.Errorf("%s: must be PATH=VALUE", v)
			}
			if err := e.Set(section(args.Plan), args.Tenant, settingPath(path), value); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *cli) unsetLimits(cfg Config, out streams) error {
	args := c.Limits.Unset
	return edit(cfg, out.stdout, args.Tenant+" changed", func(e *tenant.Edit) error {
		for _, path := range args.Paths {
			if err := e.Unset(section(args.Plan), args.Tenant, settingPath(path)); err != nil {
				return err
			}
		}
		return nil
	})
}

// section is the part of the file that has plans, or tenants.
func section(plan bool) string {
	if plan {
		return "plans"
	}
	return "tenants"
}

// settingPath returns the path of a setting below a tenant, where a limit may be
// named without "limits.".
func settingPath(path string) string {
	var limits tenant.Limits
	key, _, _ := strings.Cut(path, ".")
	for _, f := range strictyaml.Fields(reflect.ValueOf(limits)) {
		if f.Name == key {
			return "limits." + path
		}
	}
	return path
}

var errNoTenantsFile = errors.New("there is no tenants file: name one by -tenants.file, or in the configuration that -config.file names")

// directory reads the tenants file once.
func directory(cfg Config) (*tenant.Directory, error) {
	if cfg.Tenants.File == "" {
		return nil, errNoTenantsFile
	}
	d := tenant.NewDirectory(cfg.Auth.Mode, cfg.settings())
	return d, d.Follow(cfg.Tenants, slog.New(slog.DiscardHandler), nil)
}

// edit changes the tenants file, and says what was done.
func edit(cfg Config, w io.Writer, done string, change func(*tenant.Edit) error) error {
	if cfg.Tenants.File == "" {
		return errNoTenantsFile
	}
	if err := tenant.EditFile(cfg.Tenants, cfg.settings(), change); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, done)
	return err
}

// table writes lines in columns.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer, columns ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(columns...)
	return t
}

func (t table) row(cells ...string) {
	fmt.Fprintln(t, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}
