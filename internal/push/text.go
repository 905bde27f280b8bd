package push

import (
	"cmp"
	"strconv"
	"strings"
	"unicode"

	"github.com/parleychat/parley/internal/chat"
)

// inWords is what the template says to whoever reads the language, else in its own
// default language. Without a template it is nothing.
func inWords(t *chat.PushTemplate, language, otherwise string) (chat.PushText, bool) {
	if t == nil {
		return chat.PushText{}, false
	}
	for _, l := range [...]string{language, otherwise, t.Default} {
		if text, ok := inLanguage(t.Texts, l); ok {
			return text, true
		}
	}
	return chat.PushText{}, false
}

// inLanguage looks for a language tag, for ever more general ones, of de-CH-1996 for
// de-CH and de, and at last for the same language of another country. Chinese is
// told apart by its characters, which some tags name and others leave to the country.
func inLanguage[T any](texts map[string]T, tag string) (v T, ok bool) {
	tag = strings.ReplaceAll(tag, "_", "-")
	if v, ok = tagged(texts, tag); ok || tag == "" {
		return v, ok
	}
	characters := charactersOf(tag)
	for _, form := range chinese[characters] {
		if form == "zh-" { // with the country, which is the last of its parts
			form += tag[strings.LastIndexByte(tag, '-')+1:]
		}
		if v, ok = tagged(texts, form); ok {
			return v, true
		}
	}
	language := tag
	for i := strings.LastIndexByte(tag, '-'); i > 0; i = strings.LastIndexByte(language, '-') {
		language = language[:i]
		if v, ok = tagged(texts, language); ok {
			return v, true
		}
	}
	best := ""
	for name := range texts {
		if head, _, more := strings.Cut(name, "-"); more && strings.EqualFold(head, language) && charactersOf(name) == characters && (best == "" || name < best) {
			best, v, ok = name, texts[name], true
		}
	}
	return v, ok
}

// tagged is the text under just this tag, in capitals or not.
func tagged[T any](texts map[string]T, tag string) (v T, ok bool) {
	if v, ok = texts[tag]; ok {
		return v, true
	}
	for name, v := range texts {
		if strings.EqualFold(name, tag) {
			return v, true
		}
	}
	return v, false
}

// chinese are the forms under which either kind of Chinese is looked for before the
// bare zh, which is understood as the simplified one.
var chinese = map[string][]string{
	"Hans": {"zh-", "zh-Hans", "zh-CN", "zh"},
	"Hant": {"zh-", "zh-Hant", "zh-TW", "zh-HK"},
}

// charactersOf are the characters that a tag of Chinese is about; empty for other
// languages.
func charactersOf(tag string) string {
	parts := strings.Split(strings.ToLower(tag), "-")
	if parts[0] != "zh" {
		return ""
	}
	for _, part := range parts[1:] {
		switch part {
		case "hant", "tw", "hk", "mo":
			return "Hant"
		case "hans":
			return "Hans"
		}
	}
	return "Hans"
}

// Words are what the words of a notification are made of.
type Words struct {
	Send     *Send
	User     string            // the recipient
	Sender   string            // the sender's name; their id when there is none
	Channel  string            // the group's name, of group and community channels
	Provider chat.PushProvider // the device's
	Language string            // the device's
	App      string            // the app's language
	Template *chat.PushTemplate
	Content  string // what the message has as its content by now; empty for that it was sent with
	Hide     bool   // the device does not want details shown
	More     int    // how many other messages it stands for
}

// maxBody is as much of a message as any notification says, in characters. No
// provider takes more.
const maxBody = 1000

// Compose gives title and body. Of several that could say it, what the sender said
// for those who are mentioned comes first, then what they said for the device's
// platform, then what they said for everybody, then the template, then what messages
// of the type say by default.
//
// One that stands for several messages says how many they are.
//
// Where details are hidden, and the sender does not insist, it says only from whom
// something came.
func Compose(w *Words) (title, body string) {
	s := w.Send
	group := s.Message.ChannelType == chat.Group || s.Message.ChannelType == chat.Community
	words := wordsIn(w.Language, w.App)
	sender := plain(w.Sender)
	name := sender
	if channel := plain(w.Channel); group && channel != "" {
		name = channel
	}
	if name == "" {
		name = words.hidden // most providers refuse what has no title
	}
	if w.More > 0 {
		return Truncate(name, MaxTitle, Characters), strings.ReplaceAll(words.many, "{n}", strconv.Itoa(w.More+1))
	}
	if w.Hide && !s.Ext.ForceShow {
		body = words.hidden
		if s.Type() == Recall { // which is no new message, and tells nothing of the old one
			body = defaultBody(s, "", words, sender)
		}
		return Truncate(name, MaxTitle, Characters), Truncate(body, maxBody, Characters)
	}

	content := defaultBody(s, cmp.Or(w.Content, s.Message.Content), words, sender)
	if group && s.Type() != Recall && sender != "" {
		content = sender + ": " + content
	}
	text, _ := inWords(w.Template, w.Language, w.App)
	fill := filler{sender, content}
	own := s.Ext.notice(w.Provider)

	for _, body = range [...]string{s.mentioned(w.User), own.Alert, s.Message.Push.Content, fill.Replace(text.Body), content} {
		if body = clean(body); body != "" {
			break
		}
	}
	for _, title = range [...]string{own.Title, s.Ext.Title, fill.Replace(text.Title), name} {
		if title = clean(title); title != "" {
			break
		}
	}
	return Truncate(title, MaxTitle, Characters), Truncate(body, maxBody, Characters)
}

// A filler fills in what a template leaves open.
type filler struct{ sender, content string }

func (f filler) Replace(text string) string {
	if !strings.Contains(text, "{") {
		return text
	}
	return strings.NewReplacer("{sender}", f.sender, "{content}", f.content).Replace(text)
}

// mentioned is what the sender said for those who are mentioned, to one of them.
func (s *Send) mentioned(user string) string {
	if !s.Mention.Of(user) {
		return ""
	}
	return s.Mention.Content
}

// Says reports whether what a device is told of the message may be what stands in
// its content, which can be another by then.
func (s *Send) Says() bool {
	if s.Message.Event != nil {
		return false
	}
	switch s.Message.Type {
	case "RC:TxtMsg", "RC:ReferenceMsg", "RC:StreamMsg", "RC:ImgTextMsg":
		return clean(s.Message.Push.Content) == "" || s.Ext.TemplateID != ""
	}
	return false
}

// clean takes away what a notification cannot show. Lines stay lines.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return ' '
		}
		return r
	}, s))
}

// plain is a name as it can stand beside other words: without what turns the direction
// of all that follows.
func plain(name string) string {
	return clean(strings.Map(func(r rune) rune {
		if r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return -1
		}
		return r
	}, name))
}

// defaultBody is what a notification of the message says when nobody said anything
// about it.
func defaultBody(s *Send, content string, words *language, sender string) string {
	switch t := s.Type(); t {
	case Recall:
		return strings.ReplaceAll(words.recalled, "{sender}", sender)
	case "RC:TxtMsg", "RC:ReferenceMsg", "RC:StreamMsg", "RC:ImgTextMsg":
		var c struct {
			Content Loose `json:"content"`
			Title   Loose `json:"title"`
		}
		var text string
		if ReadJSON([]byte(content), &c) {
			if t == "RC:ImgTextMsg" && c.Title.Into(&text) && text != "" {
				return text
			}
			if c.Content.Into(&text) && clean(text) != "" {
				return text
			}
		}
	default:
		if body, ok := words.types[t]; ok {
			return body
		}
	}
	return words.hidden
}

// A language is what notifications say by themselves in one.
type language struct {
	hidden   string // of messages of which nothing is to be said
	many     string // of more messages than are told of one by one
	recalled string
	types    map[string]string
}

func wordsIn(tags ...string) *language {
	for _, tag := range tags {
		if l, ok := inLanguage(languages, tag); ok {
			return l
		}
	}
	return languages["en"]
}

// languages are those in which there are texts.
var languages = map[string]*language{
	"en":      texts("New message", "{n} new messages", "{sender} recalled a message", "Image", "Animation", "Voice message", "Video", "File", "Location", "Chat history"),
	"de":      texts("Neue Nachricht", "{n} neue Nachrichten", "{sender} hat eine Nachricht zurückgezogen", "Bild", "Animation", "Sprachnachricht", "Video", "Datei", "Standort", "Chatverlauf"),
	"fr":      texts("Nouveau message", "{n} nouveaux messages", "{sender} a retiré un message", "Image", "Animation", "Message vocal", "Vidéo", "Fichier", "Position", "Historique"),
	"es":      texts("Nuevo mensaje", "{n} mensajes nuevos", "{sender} retiró un mensaje", "Imagen", "Animación", "Mensaje de voz", "Vídeo", "Archivo", "Ubicación", "Historial de chat"),
	"pt":      texts("Nova mensagem", "{n} novas mensagens", "{sender} retirou uma mensagem", "Imagem", "Animação", "Mensagem de voz", "Vídeo", "Arquivo", "Localização", "Histórico da conversa"),
	"it":      texts("Nuovo messaggio", "{n} nuovi messaggi", "{sender} ha ritirato un messaggio", "Immagine", "Animazione", "Messaggio vocale", "Video", "File", "Posizione", "Cronologia chat"),
	"ja":      texts("新着メッセージ", "新着メッセージ{n}件", "{sender}がメッセージを取り消しました", "画像", "アニメーション", "ボイスメッセージ", "動画", "ファイル", "位置情報", "チャット履歴"),
	"ko":      texts("새 메시지", "새 메시지 {n}개", "{sender}님이 메시지를 회수했습니다", "사진", "움직이는 이미지", "음성 메시지", "동영상", "파일", "위치", "대화 기록"),
	"zh":      texts("您收到了一条新消息", "{n}条新消息", "{sender}撤回了一条消息", "图片", "动画表情", "语音", "视频", "文件", "位置", "聊天记录"),
	"zh-Hant": texts("您收到了一則新訊息", "{n}則新訊息", "{sender}收回了一則訊息", "圖片", "動畫表情", "語音", "影片", "檔案", "位置", "聊天記錄"),
}

func texts(hidden, many, recalled, image, animation, voice, video, file, location, combined string) *language {
	return &language{hidden, many, recalled, map[string]string{
		"RC:ImgMsg": "[" + image + "]", "RC:GIFMsg": "[" + animation + "]",
		"RC:HQVCMsg": "[" + voice + "]", "RC:VcMsg": "[" + voice + "]",
		"RC:SightMsg": "[" + video + "]", "RC:FileMsg": "[" + file + "]", "RC:LBSMsg": "[" + location + "]",
		"RC:CombineMsg": "[" + combined + "]", "RC:CombineV2Msg": "[" + combined + "]",
	}}
}
