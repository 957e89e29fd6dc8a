package config_test

import (
	"testing"

	"obolus/cmd/obolus/internal/config"
)

func TestAStoreIsNamedWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"bolt:/var/lib/obolus/records.db": "bolt:/var/lib/obolus/records.db",
		"memory:":                         "memory:",
		"postgres://obolus:hunter2@db.internal:5432/obolus":            "postgres://db.internal:5432/obolus",
		"postgres://db.internal/obolus?user=obolus&password=hunter2":   "postgres://db.internal/obolus",
		"rediss://:hunter2@redis.internal:6380/3#x":                    "rediss://redis.internal:6380/3",
		"postgres://obolus:hunter2@db.internal:port/obolus":            "postgres",
		"redis+sentinel://:hunter2@one.internal,two.internal/main/0?x": "redis+sentinel://one.internal,two.internal/main/0",
	} {
		if got := config.StoreName(address); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
	}
}
