// Package bench measures a Parley server on this machine: it starts one of its
// own, puts load on it through both doors, and holds what it reached against
// the floors the project promises.
//
// What it counts it also checks: every message that was accepted is read back,
// in its place in its recipient's timeline, and every participant of an open
// channel has to see every message once and in order. A number that does not
// come with that is not reported as good.
//
// The generator shares the machine with the server, so it is made to need
// little: requests are written from prepared bytes and answers are looked at
// just as far as the check needs.
package bench
