package serverapi

import (
	"maps"
	"slices"
	"strconv"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/fields"
	"github.com/parleychat/parley/internal/push"
)

// pushDeviceRequest holds the fields of the operations about devices that are
// registered for push.
type pushDeviceRequest struct {
	user string
	chat.PushRegistration
}

var (
	pushUser     = fields.Text("userId", func(q *pushDeviceRequest) *string { return &q.user })
	pushDeviceID = fields.Text("deviceId", func(q *pushDeviceRequest) *string { return &q.DeviceID })

	quietTable = fields.NewTable(
		fields.Text("from", func(q *chat.PushRegistration) *string { return &q.From }),
		fields.Text("to", func(q *chat.PushRegistration) *string { return &q.To }),
	)
	registerPushFields = fields.NewTable(pushUser, pushDeviceID,
		fields.Text("provider", func(q *pushDeviceRequest) *string { return &q.Provider }),
		fields.TextOrObject("token", func(q *pushDeviceRequest) (*string, *bool) { return &q.Token, &q.TokenObject }),
		fields.Text("bundle", func(q *pushDeviceRequest) *string { return &q.Bundle }),
		fields.Text("package", func(q *pushDeviceRequest) *string { return &q.Package }),
		fields.Text("environment", func(q *pushDeviceRequest) *string { return &q.Environment }),
		fields.Text("language", func(q *pushDeviceRequest) *string { return &q.Language }),
		fields.Switch("hideDetails", func(q *pushDeviceRequest) *bool { return &q.HideDetails }),
		fields.Text("timezone", func(q *pushDeviceRequest) *string { return &q.Zone }),
		fields.Object("quietHours", quietTable, func(q *pushDeviceRequest) *chat.PushRegistration {
			q.HasQuiet = true
			return &q.PushRegistration
		}),
	)
	removePushFields = fields.NewTable(pushUser, pushDeviceID)
	listPushFields   = fields.NewTable(pushUser)
)

func registerPushDevice(c *call) error {
	var q pushDeviceRequest
	if err := decode(c, registerPushFields, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.RegisterPush(c.r.Context(), c.app, q.user, &q.PushRegistration); err != nil {
		return err
	}
	c.done()
	return nil
}

func removePushDevice(c *call) error {
	var q pushDeviceRequest
	if err := decode(c, removePushFields, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.UnregisterPush(c.r.Context(), c.app, q.user, q.DeviceID); err != nil {
		return err
	}
	c.done()
	return nil
}

func listPushDevices(c *call) error {
	var q pushDeviceRequest
	if err := decode(c, listPushFields, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	list, err := c.api.directory.PushDevices(c.r.Context(), c.app, q.user)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"userId":`...)
	b = appendQuoted(b, q.user)
	b = append(b, `,"devices":[`...)
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendPushDevice(b, &list[i])
	}
	c.out = append(b, `]}}`...)
	return nil
}

// appendPushDevice appends a registration, of whose token there is only as much as
// tells it from others.
func appendPushDevice(b []byte, d *chat.PushDevice) []byte {
	text := func(name, value string) {
		if value != "" {
			b = append(b, name...)
			b = appendQuoted(b, value)
		}
	}
	text(`{"deviceId":`, d.ID)
	text(`,"provider":`, d.Provider.String())
	text(`,"token":`, chat.ShortToken(d.Token))
	text(`,"package":`, d.Package)
	text(`,"environment":`, d.Environment.String())
	text(`,"language":`, d.Language)
	b = append(b, `,"hideDetails":`...)
	b = strconv.AppendBool(b, d.HideDetails)
	text(`,"timezone":`, d.Zone)
	if q := d.Quiet; q != nil {
		text(`,"quietHours":{"from":`, chat.Clock(q.From))
		text(`,"to":`, chat.Clock(q.To))
		b = append(b, '}')
	}
	b = append(b, `,"registeredAt":`...)
	b = strconv.AppendInt(b, d.RegisteredAt, 10)
	b = append(b, `,"lastSeen":`...)
	return append(strconv.AppendInt(b, d.SeenAt, 10), '}')
}

// credentialRequest holds the fields of the operations about credentials.
type credentialRequest struct {
	provider, environment, bundle, pack string
	baseURL                             string
	check                               bool
	values                              map[string]string
}

var (
	credentialKeyFields = []fields.Field[credentialRequest]{
		fields.Text("provider", func(q *credentialRequest) *string { return &q.provider }),
		fields.Text("bundle", func(q *credentialRequest) *string { return &q.bundle }),
		fields.Text("package", func(q *credentialRequest) *string { return &q.pack }),
		fields.Text("environment", func(q *credentialRequest) *string { return &q.environment }),
	}
	// A credential's own fields: all text, but that a service account may be there
	// as the object that its file holds.
	credentialValues = fields.NewTable(credentialValueFields()...)

	setCredentialFields = fields.NewTable(append(slices.Clone(credentialKeyFields),
		fields.Text("baseUrl", func(q *credentialRequest) *string { return &q.baseURL }),
		fields.Switch("check", func(q *credentialRequest) *bool { return &q.check }),
		fields.Object("credential", credentialValues, func(q *credentialRequest) *map[string]string {
			q.values = map[string]string{}
			return &q.values
		}),
	)...)
	removeCredentialFields = fields.NewTable(credentialKeyFields...)
	checkCredentialFields  = fields.NewTable(credentialKeyFields...)
	listCredentialFields   = fields.NewTable[credentialRequest]()
)

func credentialValueFields() (list []fields.Field[map[string]string]) {
	for _, name := range chat.PushFieldNames() {
		list = append(list, fields.Field[map[string]string]{Name: name, Read: func(r *fields.Reader, v *map[string]string) error {
			text, err := r.TextOrObject()
			if err == nil && text != "" {
				(*v)[name] = text
			}
			return err
		}})
	}
	return list
}

// credential is what the request is about.
func (q *credentialRequest) credential() (c chat.PushCredential, err error) {
	if c.Provider, err = chat.ParsePushProvider(q.provider); err != nil {
		return c, err
	}
	if c.Package, err = chat.PushPackage(q.bundle, q.pack); err != nil {
		return c, err
	}
	c.Environment, err = chat.ParsePushEnvironment(c.Provider, q.environment)
	return c, err
}

func setPushCredential(c *call) error {
	var q credentialRequest
	if err := decode(c, setCredentialFields, &q); err != nil {
		return err
	}
	cred, err := q.credential()
	if err != nil {
		return err
	}
	if q.values == nil {
		return chat.Invalid("credential", "is required")
	}
	if err := c.spend(); err != nil {
		return err
	}
	cred.Fields, cred.BaseURL = q.values, q.baseURL
	var checked *push.Checked
	if q.check {
		if err := checkedForm(&cred); err != nil {
			return err
		}
		checked = &push.Checked{Credential: cred, Verdict: c.api.pushes.Check(c.r.Context(), &cred)}
		if checked.Word() == push.VerdictRefused {
			return chat.Invalid("credential", checked.Refusal())
		}
	}
	if err := withinCredential(c.api.directory.SetPushCredential(c.r.Context(), c.app, &cred, false)); err != nil {
		return err
	}
	if checked == nil {
		c.done()
		return nil
	}
	b := append(c.out, `{"code":0,"result":{"check":{`...)
	c.out = append(appendVerdict(b, &checked.Verdict), `}}}`...)
	return nil
}

// checkedForm is what setting the credential would refuse without its provider.
func checkedForm(cred *chat.PushCredential) error {
	err := cred.Check()
	if err == nil {
		err = cred.CheckReach()
	}
	return withinCredential(err)
}

// withinCredential names the fields of credentials as they stand in requests.
func withinCredential(err error) error {
	if e, ok := err.(*chat.Error); ok && slices.Contains(chat.PushFieldNames(), e.Field) {
		return fields.Within("credential", err)
	}
	return err
}

func checkPushCredentials(c *call) error {
	var q credentialRequest
	if err := decode(c, checkCredentialFields, &q); err != nil {
		return err
	}
	about, err := chat.PushCredentialsAbout(q.provider, q.bundle, q.pack, q.environment)
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	list, err := c.api.pushes.CheckAll(c.r.Context(), c.app, about)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"credentials":[`...)
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendCredential(b, &list[i].Credential)
		b = append(b[:len(b)-1], ',')
		b = append(appendVerdict(b, &list[i].Verdict), '}')
	}
	c.out = append(b, `]}}`...)
	return nil
}

// appendVerdict appends the members about what a provider says of a credential.
func appendVerdict(b []byte, v *push.Verdict) []byte {
	b = append(b, `"verdict":"`...)
	b = append(b, v.Word()...)
	b = append(b, `","class":"`...)
	b = append(b, v.Class.String()...)
	b = append(b, `","code":`...)
	b = appendQuoted(b, v.Code)
	if advice := v.Advice(); advice != "" {
		b = append(b, `,"advice":`...)
		b = appendQuoted(b, advice)
	}
	return b
}

func removePushCredential(c *call) error {
	var q credentialRequest
	if err := decode(c, removeCredentialFields, &q); err != nil {
		return err
	}
	cred, err := q.credential()
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.RemovePushCredential(c.r.Context(), c.app, &cred); err != nil {
		return err
	}
	c.done()
	return nil
}

func listPushCredentials(c *call) error {
	var q credentialRequest
	if err := decode(c, listCredentialFields, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	list, err := c.api.directory.PushCredentials(c.r.Context(), c.app)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"credentials":[`...)
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendCredential(b, &list[i])
	}
	c.out = append(b, `]}}`...)
	return nil
}

// appendCredential appends what may be known of a credential: nothing of what is
// secret in it.
func appendCredential(b []byte, cred *chat.PushCredential) []byte {
	text := func(name, value string) {
		if value != "" {
			b = append(b, name...)
			b = appendQuoted(b, value)
		}
	}
	text(`{"provider":`, cred.Provider.String())
	text(`,"package":`, cred.Package)
	text(`,"environment":`, cred.Environment.String())
	text(`,"keyId":`, cred.KeyID())
	text(`,"fingerprint":`, cred.Fingerprint())
	text(`,"baseUrl":`, cred.BaseURL)
	b = append(b, `,"since":`...)
	return append(strconv.AppendInt(b, cred.Since, 10), '}')
}

// templateRequest holds the fields of the operations about templates.
type templateRequest struct {
	id, def string
	texts   []chat.PushTranslation
}

var (
	templateID        = fields.Text("templateId", func(q *templateRequest) *string { return &q.id })
	setTemplateFields = fields.NewTable(templateID,
		fields.Text("defaultLanguage", func(q *templateRequest) *string { return &q.def }),
		fields.List("languages", chat.MaxTemplateTexts, fields.NewTable(
			fields.Text("language", func(t *chat.PushTranslation) *string { return &t.Language }),
			fields.Text("title", func(t *chat.PushTranslation) *string { return &t.Title }),
			fields.Text("body", func(t *chat.PushTranslation) *string { return &t.Body }),
		), func(q *templateRequest) *[]chat.PushTranslation { return &q.texts }),
	)
	removeTemplateFields = fields.NewTable(templateID)
	listTemplateFields   = fields.NewTable[templateRequest]()
)

func setPushTemplate(c *call) error {
	var q templateRequest
	if err := decode(c, setTemplateFields, &q); err != nil {
		return err
	}
	t, err := chat.NewPushTemplate(q.id, q.def, q.texts)
	if err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.SetPushTemplate(c.r.Context(), c.app, t); err != nil {
		return err
	}
	c.done()
	return nil
}

func removePushTemplate(c *call) error {
	var q templateRequest
	if err := decode(c, removeTemplateFields, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	if err := c.api.directory.RemovePushTemplate(c.r.Context(), c.app, q.id); err != nil {
		return err
	}
	c.done()
	return nil
}

func listPushTemplates(c *call) error {
	var q templateRequest
	if err := decode(c, listTemplateFields, &q); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	list, err := c.api.directory.PushTemplates(c.r.Context(), c.app)
	if err != nil {
		return err
	}
	b := append(c.out, `{"code":0,"result":{"templates":[`...)
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTemplate(b, &list[i])
	}
	c.out = append(b, `]}}`...)
	return nil
}

func appendTemplate(b []byte, t *chat.PushTemplate) []byte {
	b = append(b, `{"templateId":`...)
	b = appendQuoted(b, t.ID)
	b = append(b, `,"defaultLanguage":`...)
	b = appendQuoted(b, t.Default)
	b = append(b, `,"languages":[`...)
	for i, language := range slices.Sorted(maps.Keys(t.Texts)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"language":`...)
		b = appendQuoted(b, language)
		if text := t.Texts[language]; text.Title != "" {
			b = append(b, `,"title":`...)
			b = appendQuoted(b, text.Title)
		}
		b = append(b, `,"body":`...)
		b = appendQuoted(b, t.Texts[language].Body)
		b = append(b, '}')
	}
	b = append(b, `],"since":`...)
	return append(strconv.AppendInt(b, t.Since, 10), '}')
}
