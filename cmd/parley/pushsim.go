package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push/pushtest"
)

type pushSimCmd struct {
	common

	Providers []string `arg:"" optional:"" name:"provider" help:"APNs, FCM, HW, HONOR, MI, OPPO, VIVO, OHOS, MEIZU or WEB. All of them when none is named."`
	Listen    string   `default:"127.0.0.1" placeholder:"HOST" help:"Host to serve at: a name or an address, which the certificate is made for."`
	Port      int      `default:"0" placeholder:"N" help:"Port of the first provider. The others follow in the order above, and then the control. With 0 each is any."`
	Dir       string   `default:"./parley-push-sim" placeholder:"FOLDER" help:"Folder for keys, credentials and the certificate. Those it holds already are used again."`
	Strangers bool     `default:"true" negatable:"" help:"Take any token for that of a phone. Otherwise phones have to be registered by the control."`
	Strict    bool     `help:"Limit what may be said to one phone, and when, as tightly as the providers do it."`
	Fault     []string `sep:"none" placeholder:"PROVIDER:FAULT" help:"Have something go wrong from the start, such as vivo:code=10072,times=3 or fcm:status=503. May be given several times. docs/push-sim.md names what can."`
}

// Run serves until a signal, and prints what phones show.
func (c *pushSimCmd) Run(ctx context.Context, s *streams) (err error) {
	providers, err := c.providers()
	if err != nil {
		return usage(err)
	}
	if c.Port < 0 || c.Port > 0 && c.Port+len(providers) > 65535 {
		return usage(errors.New("--port must be from 0 to " + strconv.Itoa(65535-len(providers))))
	}
	stage, err := c.open()
	if err != nil {
		return err
	}
	shown := make(chan pushtest.Shown, 1024)
	stopped := make(chan struct{})
	tell := func(n pushtest.Shown) {
		select {
		case shown <- n:
		case <-stopped: // nobody reads on
		}
	}
	sims := stage.simulate(c, providers, tell)
	control := pushtest.NewControl(sims)
	if err := c.fail(sims, control); err != nil {
		return usage(err)
	}
	var wg sync.WaitGroup
	defer func() {
		close(stopped)
		stage.server.Close()
		if stage.control != nil {
			_ = stage.control.Close()
		}
		wg.Wait()
	}()
	if err := stage.serve(c, sims, control, &wg); err != nil {
		return err
	}
	if err := stage.write(); err != nil {
		return err
	}
	if err := c.greet(s, stage); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-shown:
			if err := c.show(s, n); err != nil {
				return err
			}
		}
	}
}

// providers are those that the arguments name, in the order that all are listed in.
func (c *pushSimCmd) providers() (list []chat.PushProvider, err error) {
	all := pushtest.All()
	for _, p := range chat.PushProviders() {
		if all[p] != nil && len(c.Providers) == 0 {
			list = append(list, p)
		}
	}
	for _, name := range c.Providers {
		p, err := chat.ParsePushProvider(name)
		if err != nil {
			return nil, err
		}
		if all[p] == nil {
			return nil, fmt.Errorf("%s cannot be simulated yet", p)
		}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list, nil
}

// A stage is where the simulators play: their folder and what is served.
type stage struct {
	dir    string
	seed   string
	listen string // where to listen
	host   string // by which others reach that
	server *pushtest.Server

	control        *http.Server
	controlAddress string
	credentials    []chat.PushCredential
}

// open reads what the folder holds, and makes what it lacks.
func (c *pushSimCmd) open() (*stage, error) {
	st := &stage{dir: c.Dir, listen: c.Listen, host: c.Listen}
	if ip := net.ParseIP(c.Listen); c.Listen == "" || ip != nil && ip.IsUnspecified() {
		// It can be reached by any of the machine's names, and that is one.
		host, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		st.host = host
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	seed, err := os.ReadFile(st.file("seed"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		seed = []byte(rand.Text())
		if err := os.WriteFile(st.file("seed"), append(seed, '\n'), 0o600); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	}
	if st.seed = strings.TrimSpace(string(seed)); st.seed == "" {
		return nil, fmt.Errorf("%s is empty; without it new keys are made", st.file("seed"))
	}
	ca, err := os.ReadFile(st.file("ca.pem"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if st.server, err = pushtest.OpenServer(st.seed, ca, st.host); err != nil {
		return nil, err
	}
	return st, os.WriteFile(st.file("ca.pem"), st.server.CA, 0o600)
}

func (st *stage) file(name string) string { return filepath.Join(st.dir, name) }

// simulate makes the simulators.
func (st *stage) simulate(c *pushSimCmd, providers []chat.PushProvider, tell func(pushtest.Shown)) (sims []*pushtest.Sim) {
	for _, p := range providers {
		sims = append(sims, pushtest.All()[p](pushtest.Options{Strangers: c.Strangers, Strict: c.Strict, Seed: st.seed, Shown: tell}))
	}
	return sims
}

// fail has go wrong what the flags say.
func (c *pushSimCmd) fail(sims []*pushtest.Sim, control *pushtest.Control) error {
	for _, text := range c.Fault {
		name, spec, ok := strings.Cut(text, ":")
		p, err := chat.ParsePushProvider(name)
		if err != nil || !ok {
			return fmt.Errorf("--fault %s: want PROVIDER:FAULT, such as vivo:code=10072", text)
		}
		f, err := pushtest.ParseFault(spec)
		if err != nil {
			return fmt.Errorf("--fault %s: %w", text, err)
		}
		i := slices.IndexFunc(sims, func(s *pushtest.Sim) bool { return s.Provider == p })
		if i < 0 {
			return fmt.Errorf("--fault %s: %s is not simulated", text, p)
		}
		if _, err := control.Fail(sims[i], f); err != nil {
			return err
		}
	}
	return nil
}

// serve serves them all, and the control.
func (st *stage) serve(c *pushSimCmd, sims []*pushtest.Sim, control http.Handler, wg *sync.WaitGroup) error {
	port := func(i int) string {
		if c.Port == 0 {
			return "0"
		}
		return strconv.Itoa(c.Port + i)
	}
	for i, sim := range sims {
		address, err := st.server.Serve(sim, net.JoinHostPort(st.listen, port(i)))
		if err != nil {
			return err
		}
		_, at, err := net.SplitHostPort(strings.TrimPrefix(address, "https://"))
		if err != nil {
			return err
		}
		st.credentials = append(st.credentials, sim.Credential("https://"+net.JoinHostPort(st.host, at)))
	}
	// It lets anybody in, so it is of this machine alone.
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port(len(sims))))
	if err != nil {
		return err
	}
	st.controlAddress = "http://" + ln.Addr().String()
	st.control = &http.Server{Handler: control, ReadHeaderTimeout: 10 * time.Second}
	wg.Go(func() { _ = st.control.Serve(ln) })
	return nil
}

// write writes for each provider what the server is to know it by: as JSON, what is
// secret in a file of its own, and all of it as commands.
func (st *stage) write() error {
	dir, err := filepath.Abs(st.dir)
	if err != nil {
		return err
	}
	var script strings.Builder
	script.WriteString("# Tells a server the simulators' credentials. Arguments go to each command, such as\n# --data FOLDER or --app-key KEY. PARLEY names the program if it is not parley.\nset -e\n")
	for i := range st.credentials {
		cred := &st.credentials[i]
		name := strings.ToLower(cred.Provider.String())
		text, err := json.MarshalIndent(map[string]any{
			"provider": cred.Provider.String(), "baseUrl": cred.BaseURL, "credential": cred.Fields,
		}, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(st.file(name+".json"), append(text, '\n'), 0o600); err != nil {
			return err
		}
		script.WriteString(`"${PARLEY:-parley}" push credential set ` + cred.Provider.String())
		for _, f := range chat.PushFields(cred.Provider) {
			v := cred.Fields[f.Name]
			switch {
			case v == "":
			case f.Secret:
				file := name + "." + f.Name
				if err := os.WriteFile(st.file(file), []byte(v), 0o600); err != nil {
					return err
				}
				script.WriteString(" " + f.Name + "=@" + quote(filepath.Join(dir, file)))
			default:
				script.WriteString(" " + f.Name + "=" + quote(v))
			}
		}
		script.WriteString(" --base-url " + cred.BaseURL + " \"$@\"\n")
	}
	return os.WriteFile(st.file("credentials.sh"), []byte(script.String()), 0o600)
}

func (c *pushSimCmd) greet(s *streams, st *stage) error {
	if c.JSON {
		addresses := map[string]string{}
		for i := range st.credentials {
			addresses[st.credentials[i].Provider.String()] = st.credentials[i].BaseURL
		}
		return s.json(struct {
			Providers map[string]string `json:"providers"`
			Control   string            `json:"control"`
			Dir       string            `json:"dir"`
		}{addresses, st.controlAddress, st.dir})
	}
	var b strings.Builder
	for i := range st.credentials {
		fmt.Fprintf(&b, "%-8s %s\n", st.credentials[i].Provider, st.credentials[i].BaseURL)
	}
	data := ""
	if c.Data != defaultData {
		data = " --data " + quote(c.Data)
	}
	fmt.Fprintf(&b, "%-8s %s\n\nFor a server to notify by them:\n\n  %s serve --push-ca %s%s\n  sh %s%s\n\nWhat phones show:\n\n",
		"control", st.controlAddress, program(), quote(st.file("ca.pem")), data, quote(st.file("credentials.sh")), data)
	_, err := io.WriteString(s.out, b.String())
	return err
}

func (c *pushSimCmd) show(s *streams, n pushtest.Shown) error {
	if c.JSON {
		return s.json(n)
	}
	// In quotes, so that no text moves the cursor.
	line := fmt.Sprintf("%s  %-5s %s  ", n.At.Local().Format(time.TimeOnly), n.Provider, chat.ShortToken(n.Token))
	if n.Silent {
		line += "(silent)"
	} else {
		line += strconv.Quote(n.Title) + "  " + strconv.Quote(n.Body)
	}
	if n.Badge >= 0 {
		line += "  badge " + strconv.Itoa(n.Badge)
	}
	if n.Key != "" {
		line += "  key " + n.Key
	}
	_, err := fmt.Fprintln(s.out, line)
	return err
}
