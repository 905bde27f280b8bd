// Package chat holds the nouns of a chat server: apps, users, channels,
// messages and their ids, with the rules that make each of them valid.
//
// It does no I/O and imports nothing else of this module. Every other package
// speaks in its terms.
package chat
