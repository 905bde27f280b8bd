package client

import (
	"encoding/json"
	"fmt"
)

// A Position is a place in a channel's stream.
type Position struct {
	Offset uint64
	Epoch  string
}

// A Publication is one entry of a channel's stream, or, without an offset,
// something ephemeral.
type Publication struct {
	Channel string            `json:"-"`
	Offset  uint64            `json:"offset"`
	Data    json.RawMessage   `json:"data"`
	Tags    map[string]string `json:"tags"`
	Epoch   string            `json:"epoch"`
}

// An Error is the server's refusal of a command.
type Error struct {
	Code      uint32 `json:"code"`
	Message   string `json:"message"`
	Temporary bool   `json:"temporary"`
}

func (e *Error) Error() string { return fmt.Sprintf("%s (code %d)", e.Message, e.Code) }

// retry says whether the npm client would try again by itself.
func (e *Error) retry() bool { return e.Temporary || e.Code < 100 || e.Code == codeTokenExpired }

const codeTokenExpired = 109

// The envelopes and what is in them: pages B2 to B8 of the protocol. Only what
// this client uses is named.

type command struct {
	Connect     *connectRequest     `json:"connect,omitempty"`
	Subscribe   *subscribeRequest   `json:"subscribe,omitempty"`
	Unsubscribe *unsubscribeRequest `json:"unsubscribe,omitempty"`
	RPC         *rpcRequest         `json:"rpc,omitempty"`
	History     *historyRequest     `json:"history,omitempty"`
	Refresh     *refreshRequest     `json:"refresh,omitempty"`
	ID          uint32              `json:"id"`
}

type connectRequest struct {
	Token string                      `json:"token,omitempty"`
	Data  json.RawMessage             `json:"data,omitempty"`
	Subs  map[string]subscribeRequest `json:"subs,omitempty"`
	Name  string                      `json:"name,omitempty"`
}

type subscribeRequest struct {
	Channel string          `json:"channel,omitempty"`
	Recover bool            `json:"recover,omitempty"`
	Epoch   string          `json:"epoch,omitempty"`
	Offset  uint64          `json:"offset,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
}

type unsubscribeRequest struct {
	Channel string `json:"channel"`
}

type rpcRequest struct {
	Method string          `json:"method,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
}

type historyRequest struct {
	Channel string         `json:"channel"`
	Limit   int            `json:"limit,omitempty"`
	Since   *sincePosition `json:"since,omitempty"`
	Reverse bool           `json:"reverse,omitempty"`
}

type sincePosition struct {
	Offset uint64 `json:"offset,omitempty"`
	Epoch  string `json:"epoch,omitempty"`
}

type refreshRequest struct {
	Token string `json:"token"`
}

type reply struct {
	ID        uint32           `json:"id"`
	Error     *Error           `json:"error"`
	Push      *push            `json:"push"`
	Connect   *connectResult   `json:"connect"`
	Subscribe *subscribeResult `json:"subscribe"`
	RPC       *rpcResult       `json:"rpc"`
	History   *historyResult   `json:"history"`
	Refresh   *refreshResult   `json:"refresh"`
}

type push struct {
	Channel     string           `json:"channel"`
	Pub         *Publication     `json:"pub"`
	Subscribe   *subscribeResult `json:"subscribe"`
	Unsubscribe *unsubscribePush `json:"unsubscribe"`
	Disconnect  *disconnectPush  `json:"disconnect"`
	Message     *messagePush     `json:"message"`
}

type unsubscribePush struct {
	Code   uint32 `json:"code"`
	Reason string `json:"reason"`
}

type disconnectPush struct {
	Code   uint32 `json:"code"`
	Reason string `json:"reason"`
}

type messagePush struct {
	Data json.RawMessage `json:"data"`
}

type connectResult struct {
	Client  string                      `json:"client"`
	Version string                      `json:"version"`
	Expires bool                        `json:"expires"`
	TTL     uint32                      `json:"ttl"`
	Data    json.RawMessage             `json:"data"`
	Subs    map[string]*subscribeResult `json:"subs"`
	Ping    uint32                      `json:"ping"`
	Pong    bool                        `json:"pong"`
}

type subscribeResult struct {
	Recoverable   bool            `json:"recoverable"`
	Positioned    bool            `json:"positioned"`
	Epoch         string          `json:"epoch"`
	Offset        uint64          `json:"offset"`
	Publications  []Publication   `json:"publications"`
	Recovered     bool            `json:"recovered"`
	WasRecovering bool            `json:"was_recovering"`
	Data          json.RawMessage `json:"data"`
}

type rpcResult struct {
	Data json.RawMessage `json:"data"`
}

type historyResult struct {
	Publications []Publication `json:"publications"`
	Epoch        string        `json:"epoch"`
	Offset       uint64        `json:"offset"`
}

type refreshResult struct {
	Expires bool   `json:"expires"`
	TTL     uint32 `json:"ttl"`
}
