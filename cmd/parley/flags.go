package main

import (
	"github.com/parleychat/parley/internal/node"
)

// common are the flags of every command but serve, whose settings have the
// data folder among them.
type common struct {
	node.DataDir
	fileFlag
	jsonFlag
}

type fileFlag struct {
	Config string `env:"PARLEY_CONFIG" placeholder:"FILE" help:"Read settings from this YAML file. Flags and environment win over it."`
}

type jsonFlag struct {
	JSON bool `name:"json" help:"Print JSON, one value to a line."`
}

// appFlags say which app a command is about.
type appFlags struct {
	AppKey string `env:"PARLEY_APP_KEY" placeholder:"KEY" help:"App to use. Not needed when there is only one."`
}

// serverFlags say which server a command talks to, when it is not the node that
// runs on the data folder.
type serverFlags struct {
	URL       string `env:"PARLEY_URL" placeholder:"URL" help:"Server to talk to, such as https://chat.example.com, in place of the node that runs on the data folder."`
	Insecure  bool   `help:"Accept any TLS certificate."`
	AppSecret string `env:"PARLEY_APP_SECRET" placeholder:"SECRET" help:"Secret to sign with. Needed with --url only."`
}
