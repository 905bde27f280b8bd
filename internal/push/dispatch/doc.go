// Package dispatch notifies those whom a message did not reach. It follows the log
// of what was accepted, decides for each recipient once the grace is over, keeps a
// durable job for each device to be notified, and takes the jobs to the providers
// in lanes that cannot starve each other.
//
// docs/push.md describes the whole way of a notification.
package dispatch
