package serverapi

import (
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
)

// An operation is one call of the API.
type operation struct {
	name string // in metrics, logs and the OpenAPI document
	path string
	// alias is another path of the same operation: the platform's pages come in
	// two generations.
	alias string

	// limit is the rate limit of calls. Sends have none here, but for the later
	// chunks of streams: their budgets count recipients and are the courier's.
	limit func(*chat.Settings) chat.Rate
	// budget names the budget that operations of one limit share; each has its own
	// where there is none.
	budget string

	// idempotent operations take an Idempotency-Key.
	idempotent bool

	// serve decodes the call's body, does what it asks for, and leaves the
	// answer in out.
	serve func(*call) error
}

// operations is every operation there is. Names are those of the platform's
// published API description.
var operations = []operation{
	{name: "issueAccessToken", path: "/v4/auth/access-token/issue", limit: tokenLimit, serve: issueAccessToken},
	{name: "expireAccessToken", path: "/v4/auth/access-token/expire", limit: defaultLimit, serve: expireAccessToken},
	{name: "getUser", path: "/v4/user/get", limit: defaultLimit, serve: getUser},
	{name: "getUserConnectionStatus", path: "/v4/user/connection-status/get", limit: defaultLimit, serve: getUserConnectionStatus},
	{name: "updateUser", path: "/v4/user/update", limit: defaultLimit, serve: updateUser},

	{name: "banUsers", path: "/v4/user/ban", limit: defaultLimit, serve: banUsers},
	{name: "unbanUsers", path: "/v4/user/unban", limit: defaultLimit, serve: unbanUsers},
	{name: "listBannedUsers", path: "/v4/user/ban/list", limit: defaultLimit, serve: listBannedUsers},
	{name: "setChannelTypeMute", path: "/v4/channel-type/mute/set", limit: defaultLimit, serve: setChannelTypeMute},
	{name: "listChannelTypeMute", path: "/v4/channel-type/mute/list", limit: defaultLimit, serve: listChannelTypeMute},
	{name: "softDeleteUsers", path: "/v4/user/soft-delete", limit: defaultLimit, serve: softDeleteUsers},
	{name: "restoreUsers", path: "/v4/user/restore", limit: defaultLimit, serve: restoreUsers},
	{name: "listSoftDeletedUsers", path: "/v4/user/soft-deleted/list", limit: defaultLimit, serve: listSoftDeletedUsers},

	{name: "addUserBlocklist", path: "/v4/user/blocklist/add", limit: defaultLimit, serve: addUserBlocklist},
	{name: "removeUserBlocklist", path: "/v4/user/blocklist/remove", limit: defaultLimit, serve: removeUserBlocklist},
	{name: "getUserBlocklist", path: "/v4/user/blocklist/get", limit: defaultLimit, serve: getUserBlocklist},

	{name: "batchSetUserTags", path: "/v4/user/tag/batch/set", limit: tagsLimit, serve: setUserTags},
	{name: "batchGetUserTags", path: "/v4/user/tag/batch/get", limit: defaultLimit, serve: getUserTags},

	{name: "sendDirectChannelMessage", path: "/v4/direct-channel/message/send", idempotent: true, serve: sendDirect},
	{name: "sendDirectChannelStreamMessage", path: "/v4/direct-channel/message/stream/send", limit: streamLimit, idempotent: true, serve: sendDirectStream},
	{name: "sendSystemChannelMessage", path: "/v4/system-channel/message/send", idempotent: true, serve: sendSystem},
	{name: "sendOpenChannelMessage", path: "/v4/open-channel/message/send", idempotent: true, serve: sendOpen},

	// Budgets of broadcasts are the courier's too; that of recalls is beside the
	// limit of calls, since what is recalled already costs nothing of it.
	{name: "broadcastSystemChannelMessage", path: "/v4/system-channel/message/broadcast-all", idempotent: true, serve: broadcastAll},
	{name: "broadcastMessageOnline", path: "/v4/system-channel/message/broadcast-online", idempotent: true, serve: broadcastOnline},
	{name: "deleteBroadcastMessage", path: "/v4/system-channel/message/broadcast/delete", limit: defaultLimit, serve: recallBroadcast},
	{name: "sendSystemChannelPushByTag", path: "/v4/system-channel/tagged-users/send", alias: "/v4/system-channel/push", idempotent: true, serve: sendByTag},
	{name: "sendSystemChannelPushByPackage", path: "/v4/system-channel/app-package-users/send", idempotent: true, serve: sendByPackage},

	{name: "listDirectChannelHistoryMessages", path: "/v4/direct-channel/history-message/list", limit: historyLimit, serve: listDirectHistory},
	{name: "listOpenChannelHistoryMessages", path: "/v4/open-channel/history-message/list", limit: historyLimit, serve: listOpenHistory},
	{name: "deleteChannelMessageHistory", path: "/v4/channel/message/history/delete", alias: "/v4/channel/message/history/clean", limit: defaultLimit, serve: clearHistory},
	{name: "deleteMessage", path: "/v4/message/delete", limit: defaultLimit, serve: recallMessage},
	{name: "updateDirectChannelMessage", path: "/v4/direct-channel/message/update", limit: defaultLimit, serve: updateDirect},
	{name: "setChannelTypeMessageMetadata", path: "/v4/channel-type/message/metadata/set", alias: "/v4/message/metadata/set", limit: defaultLimit, serve: setMetadata},
	{name: "deleteChannelTypeMessageMetadata", path: "/v4/channel-type/message/metadata/delete", alias: "/v4/message/metadata/delete", limit: defaultLimit, serve: deleteMetadata},
	{name: "listChannelTypeMessageMetadata", path: "/v4/channel-type/message/metadata/list", alias: "/v4/message/metadata/list", limit: defaultLimit, serve: listMetadata},

	{name: "setChannelPin", path: "/v4/channel/pin/set", limit: defaultLimit, serve: setChannelPin},
	{name: "setChannelPushNotification", path: "/v4/channel/push/set", limit: defaultLimit, serve: setChannelPushNotification},
	{name: "getChannelPushNotification", path: "/v4/channel/push/get", alias: "/v4/channel/notification/get", limit: defaultLimit, serve: getChannelPushNotification},
	{name: "setChannelTypeNotification", path: "/v4/channel-type/push/set", limit: defaultLimit, serve: setChannelTypeNotification},
	{name: "getChannelTypeNotification", path: "/v4/channel-type/push/get", limit: defaultLimit, serve: getChannelTypeNotification},
	{name: "addUserChannelTags", path: "/v4/user/channel/tag/add", limit: defaultLimit, serve: addUserChannelTags},
	{name: "removeUserChannelTags", path: "/v4/user/channel/tag/remove", limit: defaultLimit, serve: removeUserChannelTags},
	{name: "listUserChannelTags", path: "/v4/user/channel/tag/list", limit: defaultLimit, serve: listUserChannelTags},
	{name: "addTagToChannels", path: "/v4/channel/tag/add", limit: defaultLimit, serve: addTagToChannels},
	{name: "removeTagFromChannels", path: "/v4/channel/tag/delete", limit: defaultLimit, serve: removeTagFromChannels},
	{name: "listChannelsByTag", path: "/v4/channel/tag/list", limit: defaultLimit, serve: listChannelsByTag},
	{name: "getChannelAttribute", path: "/v4/channel/attribute/get", limit: defaultLimit, serve: getChannelAttribute},

	{name: "broadcastOpenChannelMessage", path: "/v4/open-channel/message/broadcast", idempotent: true, serve: broadcastOpen},
	{name: "createOpenChannel", path: "/v4/open-channel/create", limit: defaultLimit, serve: createOpen},
	{name: "getOpenChannel", path: "/v4/open-channel/get", limit: defaultLimit, serve: getOpen},
	{name: "setOpenChannelDestroyType", path: "/v4/open-channel/destroy-type/set", limit: defaultLimit, serve: setOpenDestroyType},
	{name: "addOpenChannelKeepAliveList", path: "/v4x/open-channel/keep-alive-list/add", limit: defaultLimit, serve: keepAlive(true)},
	{name: "removeOpenChannelKeepAliveList", path: "/v4x/open-channel/keep-alive-list/remove", limit: defaultLimit, serve: keepAlive(false)},
	{name: "getOpenChannelKeepAliveList", path: "/v4x/open-channel/keep-alive-list/get", limit: defaultLimit, serve: getKeptAlive},

	{name: "listOpenChannelParticipants", path: "/v4/open-channel/participant/list", limit: defaultLimit, serve: listParticipants},
	{name: "checkOpenChannelParticipantsExist", path: "/v4/open-channel/participant/exist", limit: defaultLimit, serve: checkParticipants},

	{name: "addOpenChannelParticipantMuteList", path: "/v4/open-channel/participant/mute-list/add", limit: defaultLimit, serve: addTo(courier.MutedHere)},
	{name: "removeOpenChannelParticipantMuteList", path: "/v4/open-channel/participant/mute-list/remove", limit: defaultLimit, serve: removeFrom(courier.MutedHere)},
	{name: "getOpenChannelParticipantMuteList", path: "/v4/open-channel/participant/mute-list/get", limit: defaultLimit, serve: getListed(courier.MutedHere)},
	{name: "addOpenChannelParticipantBanList", path: "/v4/open-channel/participant/ban-list/add", limit: defaultLimit, serve: addTo(courier.BannedHere)},
	{name: "removeOpenChannelParticipantBanList", path: "/v4/open-channel/participant/ban-list/remove", limit: defaultLimit, serve: removeFrom(courier.BannedHere)},
	{name: "getOpenChannelParticipantBanList", path: "/v4/open-channel/participant/ban-list/get", limit: defaultLimit, serve: getListed(courier.BannedHere)},
	{name: "addOpenChannelGlobalMuteList", path: "/v4/open-channel/global-mute-list/add", alias: "/v4/open-channel/participant/global-mute-list/add", limit: defaultLimit, serve: addTo(courier.MutedInAll)},
	{name: "removeOpenChannelGlobalMuteList", path: "/v4/open-channel/global-mute-list/remove", alias: "/v4/open-channel/participant/global-mute-list/remove", limit: defaultLimit, serve: removeFrom(courier.MutedInAll)},
	{name: "getOpenChannelGlobalMuteList", path: "/v4/open-channel/global-mute-list/get", alias: "/v4/open-channel/participant/global-mute-list/get", limit: defaultLimit, serve: getListed(courier.MutedInAll)},
	{name: "addOpenChannelFreezeList", path: "/v4/open-channel/freeze-list/add", limit: defaultLimit, serve: freeze(true)},
	{name: "removeOpenChannelFreezeList", path: "/v4/open-channel/freeze-list/remove", limit: defaultLimit, serve: freeze(false)},
	{name: "listFrozenOpenChannels", path: "/v4/open-channel/freeze-list/get", limit: defaultLimit, serve: listFrozen},
	{name: "checkOpenChannelFreeze", path: "/v4/open-channel/freeze/check", limit: defaultLimit, serve: checkFrozen},
	{name: "addOpenChannelParticipantAllowedSenderList", path: "/v4/open-channel/participant/allowed-sender-list/add", limit: defaultLimit, serve: addTo(courier.AllowedSenders)},
	{name: "removeOpenChannelParticipantAllowedSenderList", path: "/v4/open-channel/participant/allowed-sender-list/remove", limit: defaultLimit, serve: removeFrom(courier.AllowedSenders)},
	{name: "getOpenChannelParticipantAllowedSenderList", path: "/v4/open-channel/participant/allowed-sender-list/get", limit: defaultLimit, serve: getListed(courier.AllowedSenders)},

	{name: "addOpenChannelPrioritySenderList", path: "/v4/open-channel/priority-sender-list/add", alias: "/v4/open-channel/participant/priority-sender-list/add", limit: defaultLimit, serve: addTo(courier.PrioritySenders)},
	{name: "removeOpenChannelPrioritySenderList", path: "/v4/open-channel/priority-sender-list/remove", alias: "/v4/open-channel/participant/priority-sender-list/remove", limit: defaultLimit, serve: removeFrom(courier.PrioritySenders)},
	{name: "getOpenChannelPrioritySenderList", path: "/v4/open-channel/priority-sender-list/get", alias: "/v4/open-channel/participant/priority-sender-list/get", limit: defaultLimit, serve: getListed(courier.PrioritySenders)},
	{name: "addOpenChannelPriorityMessageTypeList", path: "/v4/open-channel/priority-message-type-list/add", limit: defaultLimit, serve: addTo(courier.PriorityTypes)},
	{name: "removeOpenChannelPriorityMessageTypeList", path: "/v4/open-channel/priority-message-type-list/remove", limit: defaultLimit, serve: removeFrom(courier.PriorityTypes)},
	{name: "getOpenChannelPriorityMessageTypeList", path: "/v4/open-channel/priority-message-type-list/get", limit: defaultLimit, serve: getListed(courier.PriorityTypes)},
	{name: "addOpenChannelLowPriorityMessageTypeList", path: "/v4/open-channel/low-priority-message-type-list/add", limit: defaultLimit, serve: addTo(courier.LowTypes)},
	{name: "removeOpenChannelLowPriorityMessageTypeList", path: "/v4/open-channel/low-priority-message-type-list/remove", limit: defaultLimit, serve: removeFrom(courier.LowTypes)},
	{name: "getOpenChannelLowPriorityMessageTypeList", path: "/v4/open-channel/low-priority-message-type-list/get", limit: defaultLimit, serve: getListed(courier.LowTypes)},

	{name: "batchSetOpenChannelMetadata", path: "/v4/open-channel/metadata/batch/set", limit: openMetadataLimit, budget: "openMetadata", serve: setOpenMetadata},
	{name: "batchRemoveOpenChannelMetadata", path: "/v4/open-channel/metadata/batch/remove", limit: openMetadataLimit, budget: "openMetadata", serve: removeOpenMetadata},
	{name: "batchGetOpenChannelMetadata", path: "/v4/open-channel/metadata/batch/get", limit: defaultLimit, serve: getOpenMetadata},

	// Behind all others about open channels, so that the tests that try every
	// operation have channels to try them on.
	{name: "destroyOpenChannels", path: "/v4/open-channel/destroy", limit: defaultLimit, serve: destroyOpen},

	// Ours: below /v4x so that they never meet one of the platform's.
	{name: "traceMessage", path: "/v4x/message/trace", limit: defaultLimit, serve: traceMessage},

	{name: "registerPushDevice", path: "/v4x/push/device/register", limit: defaultLimit, serve: registerPushDevice},
	{name: "removePushDevice", path: "/v4x/push/device/remove", limit: defaultLimit, serve: removePushDevice},
	{name: "listPushDevices", path: "/v4x/push/device/list", limit: defaultLimit, serve: listPushDevices},
	{name: "setPushCredential", path: "/v4x/push/credential/set", limit: defaultLimit, serve: setPushCredential},
	{name: "removePushCredential", path: "/v4x/push/credential/remove", limit: defaultLimit, serve: removePushCredential},
	{name: "listPushCredentials", path: "/v4x/push/credential/list", limit: defaultLimit, serve: listPushCredentials},
	{name: "checkPushCredentials", path: "/v4x/push/credential/check", limit: defaultLimit, serve: checkPushCredentials},
	{name: "setPushTemplate", path: "/v4x/push/template/set", limit: defaultLimit, serve: setPushTemplate},
	{name: "removePushTemplate", path: "/v4x/push/template/remove", limit: defaultLimit, serve: removePushTemplate},
	{name: "listPushTemplates", path: "/v4x/push/template/list", limit: defaultLimit, serve: listPushTemplates},
	{name: "previewPush", path: "/v4x/push/preview", limit: defaultLimit, serve: previewPush},
}

func tokenLimit(s *chat.Settings) chat.Rate        { return s.LimitToken }
func defaultLimit(s *chat.Settings) chat.Rate      { return s.LimitDefault }
func streamLimit(s *chat.Settings) chat.Rate       { return s.LimitStream }
func tagsLimit(s *chat.Settings) chat.Rate         { return s.LimitUserTags }
func historyLimit(s *chat.Settings) chat.Rate      { return s.LimitHistory }
func openMetadataLimit(s *chat.Settings) chat.Rate { return s.LimitOpenMetadata }
