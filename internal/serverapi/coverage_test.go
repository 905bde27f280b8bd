package serverapi

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// coveredBy says for every operation that is served which tests show that it
// does what it says: first through HTTP, then what clients see of it.
var coveredBy = map[string][]string{
	"issueAccessToken":        {"serverapi.TestUsersAndTokens", "serverapi.TestUsersRefused"},
	"expireAccessToken":       {"serverapi.TestUsersAndTokens", "gateway.TestExpireClosesOlderSessionsOnly", "e2e.TestTokenCutoffOverRestart"},
	"updateUser":              {"serverapi.TestUpdateUser"},
	"getUser":                 {"serverapi.TestUsersAndTokens", "serverapi.TestUpdateUser"},
	"getUserConnectionStatus": {"serverapi.TestUsersAndTokens"},

	"banUsers":            {"serverapi.TestBans", "gateway.TestBanClosesAndKeepsOut", "gateway.TestBanInBetween", "e2e.TestStanding"},
	"unbanUsers":          {"serverapi.TestBans", "gateway.TestBanClosesAndKeepsOut", "e2e.TestStanding"},
	"listBannedUsers":     {"serverapi.TestBans", "directory.TestBansEnd", "e2e.TestStanding"},
	"setChannelTypeMute":  {"serverapi.TestMutes", "gateway.TestMutedClients", "e2e.TestStanding"},
	"listChannelTypeMute": {"serverapi.TestMutes", "e2e.TestStanding"},

	"softDeleteUsers":      {"serverapi.TestSoftDeletion", "gateway.TestDeletedUsersAreKeptOut", "e2e.TestStanding"},
	"restoreUsers":         {"serverapi.TestSoftDeletion", "gateway.TestDeletedUsersAreKeptOut", "e2e.TestStanding"},
	"listSoftDeletedUsers": {"serverapi.TestSoftDeletion"},

	"addUserBlocklist":    {"serverapi.TestBlocklists", "serverapi.TestVerifyBlocklist", "gateway.TestBlockedClients", "e2e.TestStanding"},
	"removeUserBlocklist": {"serverapi.TestBlocklists", "serverapi.TestVerifyBlocklist", "gateway.TestBlockedClients", "e2e.TestStanding", "e2e.TestWhatBecomesOfMessages"},
	"getUserBlocklist":    {"serverapi.TestBlocklists", "gateway.TestBlocklistCalls", "e2e.TestStanding", "e2e.TestWhatBecomesOfMessages"},

	"batchSetUserTags": {"serverapi.TestUserTags", "serverapi.TestUserTagsRefused"},
	"batchGetUserTags": {"serverapi.TestUserTags", "serverapi.TestUserTagsRefused"},

	"broadcastSystemChannelMessage":  {"serverapi.TestBroadcasts", "serverapi.TestBroadcastsRefused", "gateway.TestBroadcasts", "e2e.TestBroadcast"},
	"broadcastMessageOnline":         {"serverapi.TestBroadcasts", "serverapi.TestBroadcastsRefused", "gateway.TestBroadcasts"},
	"deleteBroadcastMessage":         {"serverapi.TestBroadcasts", "serverapi.TestBroadcastsRefused", "gateway.TestBroadcastRecalls", "e2e.TestBroadcast"},
	"sendSystemChannelPushByTag":     {"serverapi.TestSendByTag", "serverapi.TestPushRefused", "gateway.TestBroadcastAudiences"},
	"sendSystemChannelPushByPackage": {"serverapi.TestSendByPackage", "serverapi.TestPushRefused", "gateway.TestBroadcastAudiences"},

	"sendDirectChannelMessage":       {"serverapi.TestPublishedExamples", "serverapi.TestFieldsArrive", "serverapi.TestVerifyBlocklist", "e2e.TestPublishedExamples", "e2e.TestStanding", "e2e.TestWhatBecomesOfMessages"},
	"sendSystemChannelMessage":       {"serverapi.TestPublishedExamples", "serverapi.TestFieldsArrive", "e2e.TestPublishedExamples"},
	"sendOpenChannelMessage":         {"serverapi.TestPublishedExamples", "serverapi.TestFieldsArrive", "e2e.TestPublishedExamples"},
	"sendDirectChannelStreamMessage": {"serverapi.TestStream", "serverapi.TestStreamRefuses", "serverapi.TestStreamIdempotency", "serverapi.TestStreamLeftAlone", "gateway.TestStreamLive", "gateway.TestStreamLate", "e2e.TestStreamOverKill"},

	"listDirectChannelHistoryMessages": {"serverapi.TestDirectHistory", "serverapi.TestHistoryRefuses", "gateway.TestMessageHistory", "e2e.TestWhatBecomesOfMessages"},
	"deleteChannelMessageHistory":      {"serverapi.TestClear", "serverapi.TestClearOpen", "serverapi.TestClearRefuses", "gateway.TestClear", "e2e.TestReading"},
	"deleteMessage":                    {"serverapi.TestRecall", "serverapi.TestRecallElsewhere", "serverapi.TestRecallRefuses", "gateway.TestClientsRecall", "gateway.TestRecallInRoom", "e2e.TestWhatBecomesOfMessages"},
	"updateDirectChannelMessage":       {"serverapi.TestUpdate", "serverapi.TestUpdateRefuses", "gateway.TestClientsUpdate", "e2e.TestWhatBecomesOfMessages"},
	"setChannelTypeMessageMetadata":    {"serverapi.TestMetadata", "serverapi.TestMetadataIsBounded", "serverapi.TestMetadataRefuses", "gateway.TestClientsMetadata", "e2e.TestWhatBecomesOfMessages"},
	"deleteChannelTypeMessageMetadata": {"serverapi.TestMetadata", "serverapi.TestMetadataRefuses", "gateway.TestClientsMetadata", "e2e.TestWhatBecomesOfMessages"},
	"listChannelTypeMessageMetadata":   {"serverapi.TestMetadata", "serverapi.TestMetadataIsBounded", "serverapi.TestMetadataRefuses", "e2e.TestWhatBecomesOfMessages"},
	"listOpenChannelHistoryMessages":   {"serverapi.TestOpenHistory", "serverapi.TestHistoryRefuses", "gateway.TestMessageHistory", "e2e.TestWhatBecomesOfMessages"},

	"broadcastOpenChannelMessage":                   {"serverapi.TestOpenBroadcast", "gateway.TestBroadcastInAllChannels", "e2e.TestOpenChannelOperations"},
	"createOpenChannel":                             {"serverapi.TestOpenChannelLife", "serverapi.TestOpenChannelRefuses", "node.TestOpenChannelsOverRestart", "courier.TestOpenEndsOverRestarts", "e2e.TestOpenChannelOperations"},
	"getOpenChannel":                                {"serverapi.TestOpenChannelLife", "e2e.TestOpenChannelOperations"},
	"setOpenChannelDestroyType":                     {"serverapi.TestOpenChannelLife", "courier.TestOpenEndsOverRestarts"},
	"addOpenChannelKeepAliveList":                   {"serverapi.TestKeepAlive", "courier.TestKeepAliveTakesTurns", "courier.TestOpenEndsOverRestarts"},
	"removeOpenChannelKeepAliveList":                {"serverapi.TestKeepAlive", "courier.TestOpenEndsOverRestarts"},
	"getOpenChannelKeepAliveList":                   {"serverapi.TestKeepAlive", "courier.TestOpenEndsOverRestarts"},
	"listOpenChannelParticipants":                   {"serverapi.TestOpenParticipants", "e2e.TestOpenChannelOperations"},
	"checkOpenChannelParticipantsExist":             {"serverapi.TestOpenParticipants", "e2e.TestOpenChannelOperations"},
	"addOpenChannelParticipantMuteList":             {"serverapi.TestOpenLists", "serverapi.TestClientsAreHeldToIt", "serverapi.TestOpenNotices", "gateway.TestModerationReachesSessions", "e2e.TestOpenChannelOperations"},
	"removeOpenChannelParticipantMuteList":          {"serverapi.TestOpenLists", "serverapi.TestClientsAreHeldToIt", "serverapi.TestOpenNotices", "gateway.TestModerationReachesSessions", "e2e.TestOpenChannelOperations"},
	"getOpenChannelParticipantMuteList":             {"serverapi.TestOpenLists"},
	"addOpenChannelParticipantBanList":              {"serverapi.TestOpenLists", "serverapi.TestClientsAreHeldToIt", "serverapi.TestOpenNotices", "gateway.TestModerationReachesSessions", "e2e.TestOpenChannelOperations"},
	"removeOpenChannelParticipantBanList":           {"serverapi.TestOpenLists", "serverapi.TestClientsAreHeldToIt", "serverapi.TestOpenNotices", "gateway.TestModerationReachesSessions", "e2e.TestOpenChannelOperations"},
	"getOpenChannelParticipantBanList":              {"serverapi.TestOpenLists"},
	"addOpenChannelGlobalMuteList":                  {"serverapi.TestOpenLists", "serverapi.TestClientsAreHeldToIt", "serverapi.TestOpenNotices", "gateway.TestModerationReachesSessions"},
	"removeOpenChannelGlobalMuteList":               {"serverapi.TestOpenLists", "serverapi.TestClientsAreHeldToIt", "serverapi.TestOpenNotices", "gateway.TestModerationReachesSessions"},
	"getOpenChannelGlobalMuteList":                  {"serverapi.TestOpenLists"},
	"addOpenChannelFreezeList":                      {"serverapi.TestFreezes", "serverapi.TestClientsAreHeldToIt", "serverapi.TestOpenNotices", "gateway.TestModerationReachesSessions", "e2e.TestOpenChannelOperations"},
	"removeOpenChannelFreezeList":                   {"serverapi.TestFreezes", "serverapi.TestClientsAreHeldToIt", "serverapi.TestOpenNotices", "gateway.TestModerationReachesSessions", "e2e.TestOpenChannelOperations"},
	"listFrozenOpenChannels":                        {"serverapi.TestFreezes", "serverapi.TestManyFrozenChannels"},
	"checkOpenChannelFreeze":                        {"serverapi.TestFreezes"},
	"addOpenChannelParticipantAllowedSenderList":    {"serverapi.TestOpenLists", "serverapi.TestClientsAreHeldToIt", "serverapi.TestOpenNotices", "gateway.TestModerationReachesSessions", "e2e.TestOpenChannelOperations"},
	"removeOpenChannelParticipantAllowedSenderList": {"serverapi.TestOpenLists", "serverapi.TestClientsAreHeldToIt", "serverapi.TestOpenNotices", "gateway.TestModerationReachesSessions", "e2e.TestOpenChannelOperations"},
	"getOpenChannelParticipantAllowedSenderList":    {"serverapi.TestOpenLists"},
	"addOpenChannelPrioritySenderList":              {"serverapi.TestOpenLists", "serverapi.TestOpenListsAreBounded", "gateway.TestShedIsTold"},
	"removeOpenChannelPrioritySenderList":           {"serverapi.TestOpenLists", "serverapi.TestOpenListsAreBounded", "gateway.TestShedIsTold"},
	"getOpenChannelPrioritySenderList":              {"serverapi.TestOpenLists"},
	"addOpenChannelPriorityMessageTypeList":         {"serverapi.TestOpenLists", "serverapi.TestOpenListsAreBounded", "gateway.TestShedIsTold"},
	"removeOpenChannelPriorityMessageTypeList":      {"serverapi.TestOpenLists", "serverapi.TestOpenListsAreBounded", "gateway.TestShedIsTold"},
	"getOpenChannelPriorityMessageTypeList":         {"serverapi.TestOpenLists"},
	"addOpenChannelLowPriorityMessageTypeList":      {"serverapi.TestOpenLists", "serverapi.TestOpenListsAreBounded", "gateway.TestShedIsTold"},
	"removeOpenChannelLowPriorityMessageTypeList":   {"serverapi.TestOpenLists", "serverapi.TestOpenListsAreBounded", "gateway.TestShedIsTold"},
	"getOpenChannelLowPriorityMessageTypeList":      {"serverapi.TestOpenLists"},
	"destroyOpenChannels":                           {"serverapi.TestOpenChannelLife", "serverapi.TestOpenChannelRefuses", "gateway.TestOpenChannelEnds", "e2e.TestOpenChannelOperations"},

	"setChannelPin":              {"serverapi.TestPin", "gateway.TestClientsPin", "e2e.TestOwnChannels"},
	"setChannelPushNotification": {"serverapi.TestNotificationLevels", "gateway.TestClientsNotification", "e2e.TestOwnChannels"},
	"getChannelPushNotification": {"serverapi.TestNotificationLevels", "gateway.TestClientsNotification"},
	"setChannelTypeNotification": {"serverapi.TestNotificationLevels", "gateway.TestClientsNotification"},
	"getChannelTypeNotification": {"serverapi.TestNotificationLevels", "gateway.TestClientsNotification"},
	"addUserChannelTags":         {"serverapi.TestChannelTags", "gateway.TestClientsTag", "e2e.TestOwnChannels"},
	"removeUserChannelTags":      {"serverapi.TestChannelTags", "serverapi.TestTagsOnChannels", "serverapi.TestTagsAreBounded", "gateway.TestClientsTag"},
	"listUserChannelTags":        {"serverapi.TestChannelTags", "gateway.TestClientsTag"},
	"addTagToChannels":           {"serverapi.TestTagsOnChannels", "serverapi.TestTagsAreBounded", "gateway.TestClientsTag"},
	"removeTagFromChannels":      {"serverapi.TestTagsOnChannels", "gateway.TestClientsTag"},
	"listChannelsByTag":          {"serverapi.TestTagsOnChannels", "serverapi.TestTagsAreBounded", "gateway.TestClientsTag"},
	"getChannelAttribute":        {"serverapi.TestTagsOnChannels", "e2e.TestOwnChannels"},

	"batchSetOpenChannelMetadata":    {"serverapi.TestOpenMetadata", "serverapi.TestOpenMetadataRefuses", "gateway.TestPairsAreTheSameForAll", "gateway.TestPairsGoWithTheirOwners", "gateway.TestPairsOverRestart", "e2e.TestOpenChannelPairs", "e2e.TestOpenPairsOverRestart"},
	"batchRemoveOpenChannelMetadata": {"serverapi.TestOpenMetadata", "serverapi.TestOpenMetadataRefuses", "e2e.TestOpenChannelPairs"},
	"batchGetOpenChannelMetadata":    {"serverapi.TestOpenMetadata", "e2e.TestOpenChannelPairs"},
	"registerPushDevice":             {"serverapi.TestPushDevices", "serverapi.TestPushDevicesRefused"},
	"removePushDevice":               {"serverapi.TestPushDevices"},
	"listPushDevices":                {"serverapi.TestPushDevices", "gateway.TestClientsRegisterForPush"},
	"setPushCredential":              {"serverapi.TestPushCredentials", "serverapi.TestPushCredentialsRefused"},
	"removePushCredential":           {"serverapi.TestPushCredentials"},
	"listPushCredentials":            {"serverapi.TestPushCredentials"},
	"checkPushCredentials":           {"serverapi.TestCheckPushCredentials", "node.TestPushCheck"},
	"setPushTemplate":                {"serverapi.TestPushTemplates", "serverapi.TestPushTemplatesRefused"},
	"removePushTemplate":             {"serverapi.TestPushTemplates"},
	"listPushTemplates":              {"serverapi.TestPushTemplates"},
	"previewPush":                    {"serverapi.TestPreviewPush", "serverapi.TestPreviewPushCuts", "serverapi.TestPreviewPushRefused", "node.TestPushPreview"},

	"traceMessage": {"serverapi.TestTrace", "serverapi.TestTraceOfChanges", "serverapi.TestTraceRefused", "gateway.TestTraceOfSessions", "node.TestTraceOverRestart", "e2e.TestWhatBecomesOfMessages"},
}

// isOurs reports whether an operation is one that the platform does not have.
func isOurs(path string) bool { return strings.HasPrefix(path, "/v4x/") }

// ours are the operations that the platform does not have.
func ours() (list []operation) {
	for _, o := range operations {
		if isOurs(o.path) {
			list = append(list, o)
		}
	}
	return list
}

// testPackages are where the tests of coveredBy are.
var testPackages = map[string]string{
	"serverapi": "internal/serverapi", "gateway": "internal/gateway", "directory": "internal/directory", "e2e": "test/e2e",
	"node": "internal/node", "courier": "internal/courier",
}

type published struct{ name, path, group string }

// publishedOperations reads api/operations.txt.
func publishedOperations(t *testing.T) (list []published) {
	t.Helper()
	text, err := os.ReadFile("../../api/operations.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if len(f) != 3 || !strings.HasPrefix(f[1], "/v4/") {
			t.Fatalf("operations.txt:%d: %s", i+1, line)
		}
		list = append(list, published{f[0], f[1], f[2]})
	}
	return list
}

// The page says which operations of the platform there are, which of them are
// served, and which tests show it. -update writes it anew.
func TestCoverage(t *testing.T) {
	t.Parallel()
	list := publishedOperations(t)
	if len(list) != 170 {
		t.Errorf("%d operations are listed, the platform has 170", len(list))
	}
	names, paths := map[string]bool{}, map[string]bool{}
	for _, p := range list {
		if names[p.name] || paths[p.path] {
			t.Errorf("%s or %s is listed twice", p.name, p.path)
		}
		names[p.name], paths[p.path] = true, true
	}
	for _, o := range operations {
		if !isOurs(o.path) && !slices.ContainsFunc(list, func(p published) bool { return p.name == o.name && p.path == o.path }) {
			t.Errorf("%s at %s is served but not in api/operations.txt", o.name, o.path)
		}
		if len(coveredBy[o.name]) == 0 {
			t.Errorf("%s is served but no test is named for it", o.name)
		}
	}
	tests := map[string]map[string]bool{}
	for name, by := range coveredBy {
		if !slices.ContainsFunc(operations, func(o operation) bool { return o.name == name }) {
			t.Errorf("tests are named for %s, which is not served", name)
		}
		for _, test := range by {
			pkg, function, _ := strings.Cut(test, ".")
			if tests[pkg] == nil {
				tests[pkg] = testsIn(t, pkg)
			}
			if !tests[pkg][function] {
				t.Errorf("%s is to be covered by %s, which does not exist", name, test)
			}
		}
	}
	const name = "../../docs/api-coverage.md"
	page := coveragePage(list)
	if *update {
		if err := os.WriteFile(name, page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(name); err != nil || !bytes.Equal(have, page) {
		t.Errorf("docs/api-coverage.md is out of date (%v); `make docs` writes it", err)
	}
}

// testsIn are the names of the tests in a package.
func testsIn(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../../" + testPackages[pkg] + "/*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("the tests of %s: %d files, %v", pkg, len(files), err)
	}
	found := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				found[fn.Name.Name] = true
			}
		}
	}
	return found
}

func coveragePage(list []published) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# What of the API is there\n\n<!-- Generated by `make docs` from api/operations.txt and the tests. Do not edit. -->\n\n")
	fmt.Fprintf(&b, "Version 4 of the platform API has %d operations. Parley serves %d of them so far; [the manual](server-api.md) says how. The tests named are those that show it, with their package.\n", len(list), len(operations)-len(ours()))
	group := ""
	for _, p := range list {
		if p.group != group {
			group = p.group
			fmt.Fprintf(&b, "\n## %s\n\n| operation | path | | tests |\n|---|---|---|---|\n", group)
		}
		state, tests := "not yet", ""
		if by := coveredBy[p.name]; len(by) > 0 {
			state, tests = "done", "`"+strings.Join(by, "` `")+"`"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", p.name, p.path, state, tests)
	}
	fmt.Fprintf(&b, "\n## Ours\n\nOperations that the platform does not have, below `/v4x/`.\n\n| operation | path | tests |\n|---|---|---|\n")
	for _, o := range ours() {
		fmt.Fprintf(&b, "| %s | `%s` | `%s` |\n", o.name, o.path, strings.Join(coveredBy[o.name], "` `"))
	}
	return b.Bytes()
}
