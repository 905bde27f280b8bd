package dispatch

import (
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
)

func rulesOf(*chat.App) push.Rules { return push.Rules{Enabled: true, Language: "en"} }

func withdrawsOf(*chat.App) bool { return false }
