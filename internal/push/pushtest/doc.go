// Package pushtest is the providers' side of push, for tests, demonstrations and
// whoever has no account with them: one server for each, which lets in whom the
// real one lets in, refuses what the real one refuses, and knows what each phone
// would show.
//
// A [Sim] is one provider. What is the same for all, phones, faults and what was
// seen, is here; what a provider's requests and answers look like is in its file.
package pushtest
