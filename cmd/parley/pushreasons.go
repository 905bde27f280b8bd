package main

// inWords is a reason for which nobody is notified, with what it means.
func inWords(reason string) string {
	if words := reasonsInWords[reason]; words != "" {
		return reason + " (" + words + ")"
	}
	return reason
}

var reasonsInWords = map[string]string{
	"pending":         "it is not decided yet",
	"push_off":        "push is switched off, or the app has no credentials",
	"channel_type":    "of an open channel",
	"event":           "no message but what happened to one",
	"ephemeral":       "the type does not wait for who is offline",
	"disabled":        "sent with disablePush",
	"no_text":         "the type notifies only with a pushContent",
	"copy":            "it is from them",
	"deleted":         "they are soft-deleted",
	"banned":          "they are banned",
	"reached":         "a device has acknowledged it",
	"reached_desktop": "a browser or desktop has acknowledged it",
	"read":            "it was read or deleted meanwhile",
	"recalled":        "it was recalled meanwhile",
	"late":            "its lifetime is over",
	"quiet_hours":     "they have quiet hours",
	"level":           "by their notification level",
	"no_device":       "no device is registered that it could go to",
	"nothing_to_show": "it has nothing to show there",
	"no_credential":   "the app has no credential for the device",
	"broadcast":       "of a broadcast that notified before",
}
