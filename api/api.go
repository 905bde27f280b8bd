// Package api holds the description of the server API, which the server also
// serves.
package api

import _ "embed"

// Document is the OpenAPI description, as YAML.
//
//go:embed openapi.yaml
var Document []byte
