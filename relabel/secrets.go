package relabel

import (
	"encoding/base64"
	"strings"
)

// findJWT finds tokens by RFC 7519: parts in base64url with dots between, of which
// the first is a header in JSON that names an algorithm. The signature may lack.
func findJWT(value string, found func(from, to int)) {
	const part = alphanumeric | isDash | isWord
	const most = 64 // places in one run of such characters where a header may begin
	for i := 0; i < len(value); {
		header := run(value, i, part)
		if header == i || !is(value, header, isDot) || !is(value, header+1, part) {
			i = header + 1
			continue
		}
		from := i
		for tried := 0; tried < most && from < header; from++ {
			if beginsObject(value, from) {
				if tried++; namesAlgorithm(value[from:header]) {
					break
				}
			}
		}
		if i = header + 1; from == header || !beginsObject(value, from) {
			continue
		}
		to := header
		for parts := 1; parts < 5 && is(value, to, isDot); parts++ {
			to = run(value, to+1, part)
		}
		found(from, to)
		i = to
	}
}

// beginsObject reports whether a JSON object in base64 may begin at i: behind its
// brace comes a quote, or white space.
func beginsObject(value string, i int) bool {
	return i+1 < len(value) && value[i] == 'e' && (value[i+1] == 'y' || value[i+1] == 'w') && !is(value, i-1, alphanumeric)
}

// namesAlgorithm decodes the header of a JWT, which has the member alg.
func namesAlgorithm(header string) bool {
	const enough = 4 << 10
	var json [enough]byte
	header = header[:min(len(header), base64.RawURLEncoding.EncodedLen(enough))]
	n, _ := base64.RawURLEncoding.Decode(json[:], []byte(header)) // as far as it goes
	return strings.Contains(string(json[:n]), `"alg"`)
}

// A secretForm is how a key or token tells what it is: a prefix, and at least so
// many characters behind it. Fewer than there are, so that keys of the next
// generation are found as well.
type secretForm struct {
	prefix string
	least  int
	of     class
}

const (
	base62  = alphanumeric
	base64s = alphanumeric | isDash | isWord
	dotted  = base64s | isDot
	upper   = isUpper | isDigit
)

// secretForms are from what the issuers document.
var secretForms = []secretForm{
	{"AKIA", 16, upper}, {"ASIA", 16, upper}, {"ABIA", 16, upper}, {"ACCA", 16, upper}, // AWS access key ids
	{"ghp_", 30, base62}, {"gho_", 30, base62}, {"ghu_", 30, base62}, {"ghs_", 30, dotted}, {"ghr_", 30, base62}, // GitHub
	{"github_pat_", 22, base64s},
	{"glpat-", 20, dotted}, {"gldt-", 20, base64s}, {"glrt-", 20, dotted}, {"glptt-", 20, base64s}, // GitLab
	{"glcbt-", 20, base64s}, {"glsoat-", 20, base64s}, {"glft-", 20, base64s}, {"gloas-", 20, base64s},
	{"xoxb-", 10, base64s}, {"xoxp-", 10, base64s}, {"xoxa-", 10, base64s}, {"xoxr-", 10, base64s}, // Slack
	{"xoxs-", 10, base64s}, {"xoxe-", 10, base64s}, {"xoxe.xox", 10, base64s}, {"xapp-", 10, base64s},
	{"AIza", 35, base64s}, {"ya29.", 20, base64s}, {"GOCSPX-", 20, base64s}, {"1//0", 40, base64s}, // Google
	{"sk_live_", 16, base62}, {"sk_test_", 16, base62}, {"rk_live_", 16, base62}, {"rk_test_", 16, base62}, {"whsec_", 24, base62}, // Stripe
	{"SG.", 60, dotted},                                  // SendGrid
	{"npm_", 36, base62},                                 // npm
	{"pypi-AgE", 50, base64s},                            // PyPI
	{"dckr_pat_", 20, base64s},                           // Docker
	{"hvs.", 24, base64s},                                // HashiCorp Vault
	{"hvb.", 24, base64s},                                //
	{"hvr.", 24, base64s},                                //
	{"dop_v1_", 64, base62},                              // DigitalOcean
	{"doo_v1_", 64, base62},                              //
	{"dor_v1_", 64, base62},                              //
	{"shpat_", 32, base62},                               // Shopify
	{"shpca_", 32, base62},                               //
	{"shppa_", 32, base62},                               //
	{"shpss_", 32, base62},                               //
	{"sk-ant-", 20, base64s},                             // Anthropic
	{"sk-proj-", 20, base64s},                            // OpenAI
	{"sk-svcacct-", 20, base64s},                         //
	{"hf_", 30, base62},                                  // Hugging Face
	{"glsa_", 32, base64s},                               // Grafana
	{"glc_", 32, base62},                                 //
	{"dapi", 32, isHex},                                  // Databricks
	{"NRAK-", 27, base62},                                // New Relic
	{"lin_api_", 32, base62},                             // Linear
	{"ATATT3", 60, base64s},                              // Atlassian
	{"pul-", 40, isHex},                                  // Pulumi
	{"AGE-SECRET-KEY-1", 50, upper},                      // age
	{"hooks.slack.com/services/", 20, base64s | isSlash}, // who knows the URL may post
}

// secretsBy are the forms by the first byte of their prefix.
var secretsBy = func() (by [256][]secretForm) {
	for _, f := range secretForms {
		by[f.prefix[0]] = append(by[f.prefix[0]], f)
	}
	return by
}()

// findSecret finds secrets by their prefix, at the beginning of a word, and
// private keys in PEM.
func findSecret(value string, found func(from, to int)) {
	for i := 0; i < len(value); {
		to := i + 1
		if !is(value, i-1, alphanumeric) {
			for _, f := range secretsBy[value[i]] {
				if end := f.end(value, i); end > 0 {
					found(i, end)
					to = end
					break
				}
			}
		}
		if value[i] == '-' {
			if end := privateKey(value[i:]); end > 0 {
				found(i, i+end)
				to = i + end
			}
		}
		i = to
	}
}

// end returns the end of the secret that begins at from, or 0.
func (f *secretForm) end(value string, from int) int {
	if !strings.HasPrefix(value[from:], f.prefix) {
		return 0
	}
	from += len(f.prefix)
	if end := run(value, from, f.of); end-from >= f.least {
		return end
	}
	return 0
}

// privateKey returns the length of the private key in PEM that value begins with,
// or 0. Without its last line it goes to the end.
func privateKey(value string) int {
	const begin, end, longest = "-----BEGIN ", "-----END ", len("-----BEGIN ENCRYPTED PRIVATE KEY BLOCK-----")
	if !strings.HasPrefix(value, begin) || !strings.Contains(value[:min(len(value), longest)], "PRIVATE KEY") {
		return 0
	}
	at := strings.Index(value, end)
	if at < 0 {
		return len(value)
	}
	at += len(end)
	if dashes := strings.Index(value[at:], "-----"); dashes >= 0 {
		return at + dashes + len("-----")
	}
	return len(value)
}
