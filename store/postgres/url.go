package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var errURL = errors.New("postgres url is none: postgres://user:password@host:5432/database?sslmode=verify-full")

// parse turns a URL into a configuration and a number of connections, zero if it has none. Its errors never quote the URL,
// which may hold a password.
func parse(address string) (*pgx.ConnConfig, int, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, 0, errURL
	}
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, 0, reason(err, u)
	}
	conns := 0
	if most, ok := config.RuntimeParams["pool_max_conns"]; ok {
		delete(config.RuntimeParams, "pool_max_conns")
		if conns, err = strconv.Atoi(most); err != nil || conns < 1 || conns > 1000 {
			return nil, 0, errors.New("postgres url: pool_max_conns wants a number from 1 to 1000")
		}
	}
	if !u.Query().Has("connect_timeout") {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "obolus"
	}
	if config.ValidateConnect == nil {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite // of several hosts, the one that leads
	}
	return config, conns, nil
}

// reason says what is wrong with a URL, unless that could quote a secret.
func reason(err error, u *url.URL) error {
	cause := errors.Unwrap(err)
	if cause == nil {
		return errURL
	}
	for _, secret := range []string{u.Query().Get("password"), u.Query().Get("sslpassword"), password(u)} {
		if secret != "" && strings.Contains(cause.Error(), secret) {
			return errURL
		}
	}
	return fmt.Errorf("postgres url: %w", cause)
}

func password(u *url.URL) string {
	if u.User == nil {
		return ""
	}
	secret, _ := u.User.Password()
	return secret
}

// settle gives a session its settings. What is acknowledged is on disk. Everything is found by its key, so plans that
// would read a table as a whole, which a table that was small a moment ago invites, are ruled out once and for all, and
// a plan once made is kept.
func settle(ctx context.Context, c *pgconn.PgConn) error {
	_, err := c.Exec(ctx, `
		select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off';
		set search_path = pg_catalog;
		set statement_timeout = '5s';
		set idle_in_transaction_session_timeout = '10s';
		set default_transaction_isolation = 'read committed';
		set client_min_messages = warning;
		set jit = off;
		set enable_seqscan = off;
		set enable_hashjoin = off;
		set enable_mergejoin = off;
		set plan_cache_mode = force_generic_plan;
	`).ReadAll()
	return err
}
