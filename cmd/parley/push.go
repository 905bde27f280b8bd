package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/chat"
)

type pushCmd struct {
	Credential pushCredentialCmd `cmd:"" help:"Set, list and remove what push providers know an app by."`
	Template   pushTemplateCmd   `cmd:"" help:"Set, list and remove the texts of pushes."`
	Check      pushCheckCmd      `cmd:"" help:"Ask the providers whether they take the app's credentials. Nobody is notified."`
	Preview    pushPreviewCmd    `cmd:"" help:"Show what a message would notify whom with, and why or why not. Nothing is sent."`
}

type pushCredentialCmd struct {
	Set    pushCredentialSetCmd    `cmd:"" help:"Set a credential. Devices of the provider are notified from then on."`
	List   pushCredentialListCmd   `cmd:"" help:"List the credentials, without what is secret."`
	Remove pushCredentialRemoveCmd `cmd:"" help:"Forget a credential."`
	Vapid  pushCredentialVapidCmd  `cmd:"" help:"Make a key pair for WEB, by which push services know an app."`
}

// pushKeyArgs say which credential a command is about.
type pushKeyArgs struct {
	Provider    string `arg:"" help:"APNs, FCM, HW, HONOR, MI, OPPO, VIVO, OHOS, MEIZU or WEB."`
	Package     string `aliases:"bundle" placeholder:"PACKAGE" help:"App on the devices that it is for, also called bundle. Without it, for all that have no credential of their own."`
	Environment string `placeholder:"NAME" help:"Of APNs: the tokens it is for, production or sandbox. Both when absent."`
}

func (k *pushKeyArgs) key() admin.PushKey {
	return admin.PushKey{Provider: k.Provider, Package: k.Package, Environment: k.Environment}
}

type pushCredentialSetCmd struct {
	common
	appFlags
	pushKeyArgs
	Fields  []string `arg:"" name:"name=value" help:"Fields, such as keyId=ABCDE12345. name=@FILE reads the value from a file, and name=@- from standard input, so that secrets stand in no list of processes. docs/server-api.md names them."`
	BaseURL string   `placeholder:"URL" help:"Ask this address in place of the provider's, such as a relay's."`
	Check   bool     `help:"Ask the provider first, by the running node, and set nothing that it refuses."`
}

// Run stores a credential.
func (c *pushCredentialSetCmd) Run(ctx context.Context, s *streams) error {
	fields := map[string]string{}
	for _, pair := range c.Fields {
		name, value, ok := strings.Cut(pair, "=")
		if _, double := fields[name]; !ok || double {
			// Not what it says: it may be a secret.
			return usage(fmt.Errorf("want each field once, as name=value or name=@FILE"))
		}
		if file, is := strings.CutPrefix(value, "@"); is {
			text, err := readSecret(s, file)
			if err != nil {
				return err
			}
			value = text
		}
		fields[name] = value
	}
	return withApp(ctx, c.common, c.appFlags, func(o *owner, key string) error {
		said, err := o.SetPushCredential(ctx, key, c.key(), c.BaseURL, fields, c.Check)
		switch {
		case err != nil || !c.Check:
			return err
		case c.JSON:
			return s.json(said)
		case said.Advice != "":
			fmt.Fprintf(s.err, "set, but not known to be good (%s): %s\n", said.Code, said.Advice)
		}
		return nil
	})
}

type pushCheckCmd struct {
	common
	appFlags
	Provider    string `arg:"" optional:"" help:"APNs, FCM, HW, HONOR, MI, OPPO, VIVO, OHOS, MEIZU or WEB. All when absent."`
	Package     string `aliases:"bundle" placeholder:"PACKAGE" help:"Only what is set for this package."`
	Environment string `placeholder:"NAME" help:"Only what is set for this environment of APNs, production or sandbox."`
}

// Run has the node ask, and fails when a provider does not say that it takes a
// credential.
func (c *pushCheckCmd) Run(ctx context.Context, s *streams) error {
	var list []admin.PushChecked
	err := withApp(ctx, c.common, c.appFlags, func(o *owner, key string) (err error) {
		list, err = o.CheckPushCredentials(ctx, key, admin.PushKey{Provider: c.Provider, Package: c.Package, Environment: c.Environment})
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		err = s.json(list)
	} else {
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		for _, l := range list {
			fmt.Fprintln(w, strings.Join([]string{l.Provider, orDash(l.Package), orDash(l.Environment), orDash(l.KeyID), l.Verdict, l.Class, orDash(l.Code)}, "\t"))
			if l.Advice != "" {
				fmt.Fprintf(w, "\t%s\n", l.Advice)
			}
		}
		err = w.Flush()
	}
	bad := 0
	for _, l := range list {
		if l.Verdict != "good" {
			bad++
		}
	}
	switch {
	case err != nil:
		return err
	case len(list) == 0:
		return errors.New("there is no such credential; parley push credential list shows those there are")
	case bad > 0:
		return fmt.Errorf("%d of %d credentials are not known to be good", bad, len(list))
	}
	return nil
}

// maxSecretFile is more than any key or account has.
const maxSecretFile = 64 << 10

func readSecret(s *streams, name string) (string, error) {
	r := s.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		r = f
	}
	text, err := io.ReadAll(io.LimitReader(r, maxSecretFile))
	return strings.TrimSpace(string(text)), err
}

type pushCredentialListCmd struct {
	common
	appFlags
}

// Run lists credentials.
func (c *pushCredentialListCmd) Run(ctx context.Context, s *streams) error {
	var list []admin.PushCredential
	err := withApp(ctx, c.common, c.appFlags, func(o *owner, key string) (err error) {
		list, err = o.PushCredentials(ctx, key)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(list)
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	for _, l := range list {
		row := []string{l.Provider, orDash(l.Package), orDash(l.Environment), orDash(l.KeyID), l.Fingerprint, l.Since.Format(time.DateTime)}
		if l.BaseURL != "" {
			row = append(row, l.BaseURL)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return nil
}

type pushCredentialVapidCmd struct {
	common
	PrivateKey string `placeholder:"FILE" help:"Write the private key to this new file in place of printing it, for privateKey=@FILE of credential set."`
}

// Run makes a pair of keys.
func (c *pushCredentialVapidCmd) Run(s *streams) error {
	public, private, err := chat.NewWebKeys()
	if err != nil {
		return err
	}
	if c.PrivateKey != "" {
		// Never over one that is there: subscriptions made with it would be lost.
		f, err := os.OpenFile(c.PrivateKey, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(f, private)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		private = ""
	}
	if c.JSON {
		return s.json(struct {
			PublicKey  string `json:"publicKey"`
			PrivateKey string `json:"privateKey,omitempty"`
		}{public, private})
	}
	text := "publicKey=" + public + "\n"
	if private != "" {
		text += "privateKey=" + private + "\n"
	}
	_, err = io.WriteString(s.out, text)
	return err
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type pushCredentialRemoveCmd struct {
	common
	appFlags
	pushKeyArgs
}

// Run forgets a credential.
func (c *pushCredentialRemoveCmd) Run(ctx context.Context) error {
	return withApp(ctx, c.common, c.appFlags, func(o *owner, key string) error {
		return o.RemovePushCredential(ctx, key, c.key())
	})
}

type pushTemplateCmd struct {
	Set    pushTemplateSetCmd    `cmd:"" help:"Set a template, which messages name in pushExt.templateId."`
	List   pushTemplateListCmd   `cmd:"" help:"List the templates."`
	Remove pushTemplateRemoveCmd `cmd:"" help:"Forget a template."`
}

type pushTemplateSetCmd struct {
	common
	appFlags
	ID      string   `arg:"" help:"Id of the template, as pushExt.templateId names it."`
	Bodies  []string `arg:"" name:"language=text" help:"What it says, such as en='{sender}: {content}'."`
	Title   []string `sep:"none" placeholder:"LANGUAGE=TEXT" help:"Title in a language. May be given once for each."`
	Default string   `placeholder:"LANGUAGE" help:"Language for those whose own is not there. The first one when absent."`
}

// Run stores a template.
func (c *pushTemplateSetCmd) Run(ctx context.Context) error {
	t := admin.PushTemplate{ID: c.ID, Default: c.Default}
	titles := map[string]string{}
	for _, pair := range c.Title {
		language, text, ok := strings.Cut(pair, "=")
		if _, double := titles[language]; !ok || double {
			return usage(fmt.Errorf("want each title once, as language=text, got %q", pair))
		}
		titles[language] = text
	}
	for _, pair := range c.Bodies {
		language, text, ok := strings.Cut(pair, "=")
		if !ok {
			return usage(fmt.Errorf("want language=text, got %q", pair))
		}
		t.Texts = append(t.Texts, admin.PushText{Language: language, Title: titles[language], Body: text})
		delete(titles, language)
	}
	for language := range titles {
		return usage(fmt.Errorf("a title in %q, but no text", language))
	}
	if t.Default == "" {
		t.Default = t.Texts[0].Language
	}
	return withApp(ctx, c.common, c.appFlags, func(o *owner, key string) error {
		return o.SetPushTemplate(ctx, key, t)
	})
}

type pushTemplateListCmd struct {
	common
	appFlags
}

// Run lists templates.
func (c *pushTemplateListCmd) Run(ctx context.Context, s *streams) error {
	var list []admin.PushTemplate
	err := withApp(ctx, c.common, c.appFlags, func(o *owner, key string) (err error) {
		list, err = o.PushTemplates(ctx, key)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(list)
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	for _, t := range list {
		for _, text := range t.Texts {
			mark := ""
			if text.Language == t.Default {
				mark = "default"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%q\t%q\n", t.ID, text.Language, orDash(mark), text.Title, text.Body)
		}
	}
	return nil
}

type pushTemplateRemoveCmd struct {
	common
	appFlags
	ID string `arg:"" help:"Id of the template."`
}

// Run forgets a template.
func (c *pushTemplateRemoveCmd) Run(ctx context.Context) error {
	return withApp(ctx, c.common, c.appFlags, func(o *owner, key string) error {
		return o.RemovePushTemplate(ctx, key, c.ID)
	})
}

// withApp does something with the app that the flags name.
func withApp(ctx context.Context, c common, flags appFlags, do func(o *owner, key string) error) error {
	o, err := reachExisting(ctx, c.Data)
	if err != nil {
		return err
	}
	app, err := pickApp(ctx, o, flags.AppKey)
	if err == nil {
		err = do(o, app.Key)
	}
	return errors.Join(err, o.close())
}
