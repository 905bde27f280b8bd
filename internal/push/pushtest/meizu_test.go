package pushtest

import "testing"

// The example that Meizu gives for its signature.
func TestMeizuSign(t *testing.T) {
	t.Parallel()
	got := meizuSign(map[string]string{
		"appId": "10000", "pushIds": "RA50c6348036344485d01776773577c64740465480a6b",
		"messageJson": `{"title":"title","content":"content","pushTimeInfo":{"offLine":1,"validTime":24}}`,
	}, "<APP_SECRET>")
	if got != "ac076ff25d9900015a681cb5172aa53b" {
		t.Error(got)
	}
}
