package pushtest

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// What Huawei's two services have in common: those for Android and for HarmonyOS.
const (
	huaweiTokens  = 1000 // of one request
	huaweiPayload = 4096 // bytes, tokens not counted
	huaweiTTL     = 15 * 24 * time.Hour
	huaweiDaily   = 3000 // notifications of an app that a device shows on a day
	huaweiAdverts = 2    // of these, such as are of no class that the app may use
	huaweiBadge   = 99
)

var huaweiCategories = strings.Fields("IM VOIP MISS_CALL SUBSCRIPTION TRAVEL HEALTH WORK ACCOUNT EXPRESS FINANCE DEVICE_REMINDER MAIL MARKETING PLAY_VOICE")

// huaweiWords are what Huawei says of codes.
var huaweiWords = map[string]struct {
	status int
	text   string
}{
	"80000000": {200, "Success"},
	"80100000": {200, "Some of the tokens are illegal"},
	"80100001": {400, "Check Parameter Error"},
	"80100002": {400, "The number of tokens must be 1 for a synchronous message"},
	"80100003": {400, "Illegal payload"},
	"80100004": {400, "Illegal expire time"},
	"80100013": {400, "Illegal collapse_key"},
	"80100016": {400, "The message contains sensitive information"},
	"80100018": {400, "The message did not pass review"},
	"80100022": {400, "Anti-Spam: image not verify"},
	"80200001": {401, "Authentication Error"},
	"80200003": {401, "Access token expired"},
	"80200005": {401, "Jwt token expired"},
	"80300002": {400, "No permission to send message to these tmIDs"},
	"80300007": {200, "All the tokens are invalid"},
	"80300008": {400, "Push message size is too long"},
	"80300010": {400, "Token count is out of range"},
	"80300011": {400, "No right to send messages of HIGH importance"},
	"80300013": {400, "Illegal receipt URL"},
	"80300029": {400, "Test messages exceed the limit"},
	"80300030": {400, "Token count of a test message exceeds the limit"},
	"80300036": {401, "JWT expire period over threshold"},
	"80300037": {400, "Disable send because of penalty"},
	"80600003": {500, "Failed to request the OAuth service"},
	"81000001": {500, "Inner Error"},
}

// A huaweiAnswer is what Huawei answers to a message.
type huaweiAnswer struct {
	Code      string `json:"code"`
	Msg       string `json:"msg"`
	RequestID string `json:"requestId"`
}

// answerHuawei answers with a code, and with text where there is more to say than
// the code's own words.
func answerHuawei(w http.ResponseWriter, code, text, id string) {
	words, known := huaweiWords[code]
	if !known {
		words.status, words.text = http.StatusBadRequest, "Error"
	}
	if text == "" {
		text = words.text
	}
	answerJSON(w, words.status, huaweiAnswer{code, text, id})
}

// answerJSON answers with v. Slashes are escaped, as Java's libraries do it.
func answerJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic("pushtest: " + err.Error()) // a type without a JSON form
	}
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(strings.ReplaceAll(string(body), "/", `\/`)))
}

// readKnown reads JSON that has only members of v, each once and of its type.
func readKnown(body string, v any) error {
	return json.Unmarshal([]byte(body), v, json.RejectUnknownMembers(true))
}

// isJSON reports whether the request says that it is JSON.
func isJSON(r *http.Request) bool {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(kind) == "application/json"
}

// fitsHuawei reports whether the body is no larger than Huawei takes it.
func fitsHuawei(body string, tokens []string) bool {
	size := len(body)
	for _, t := range tokens {
		size -= len(t)
	}
	return size <= huaweiPayload
}

// carried fills in what the app on the phone gets beside what is shown.
func (n *Shown) carried(data string) {
	var v struct {
		AppData string         `json:"appData"`
		Card    jsontext.Value `json:"rc"`
		Removes string         `json:"rc-dlt-identifier"`
	}
	if json.Unmarshal([]byte(data), &v) == nil {
		n.Data, n.Card, n.Removes = v.AppData, string(v.Card), v.Removes
	}
}

// link reports whether the text is one that images and pages are fetched by.
func link(text string) bool { return strings.HasPrefix(text, "https://") }

// between reports whether a number that may be left out is one of these.
func between(n *int, least, most int) bool { return n == nil || *n >= least && *n <= most }

// among reports whether a text that may be left out is one of these.
func among(text string, words []string) bool { return text == "" || slices.Contains(words, text) }

// HWPackage is the app that HW, OHOS and HONOR know their credential by: tokens of
// phones with another one are not theirs.
const HWPackage = "com.example.app"

// allowed reports whether the phone shows one more of these: an app's notifications
// of a day are counted, and beyond the limit they are accepted for nothing.
func (d *daily) allowed(s *Sim, token, category string) bool {
	if s.options.Strict && (category == "" || category == "MARKETING") && !d.take(s.Now(), "advert "+token, huaweiAdverts) {
		return false
	}
	return d.take(s.Now(), token, huaweiDaily)
}
