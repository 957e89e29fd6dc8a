create table %[1]s.records (
  partition text collate "C" not null,
  name      text collate "C" not null,
  version   bigint not null,
  expires   bigint, -- milliseconds; null: never
  listed    boolean not null,
  value     bytea not null,
  primary key (partition, name)
) with (fillfactor = 90);

create index records_listed on %[1]s.records (partition, name) where listed;

create index records_expires on %[1]s.records (expires) where expires is not null;

-- The versions of all records. Those that copies bring along are passed by, so each is above all that were.
create sequence %[1]s.versions minvalue 2 maxvalue 9007199254740991;

-- The partitions of a transaction, in the order that all of them keep.
create function %[1]s.hold(stripes int[]) returns void language plpgsql as $$
declare
  stripe int;
begin
  foreach stripe in array stripes loop
    perform pg_advisory_xact_lock(%[2]d, stripe);
  end loop;
end $$;

-- A value as a counter; what is none counts zero.
create function %[1]s.number(raw bytea) returns bigint language plpgsql immutable parallel safe as $$
declare
  word   text := encode(raw, 'escape');
  digits text := ltrim(ltrim(word, '+-'), '0');
  n      numeric;
begin
  if word is null or word !~ '^[+-]?[0-9]+$' or digits = '' or length(digits) > 19 then
    return 0;
  end if;
  n := digits::numeric;
  if word like '-%%' then
    n := -n;
  end if;
  return case when n between -9223372036854775808 and 9223372036854775807 then n::bigint else 0 end;
end $$;

-- Sees to it that the next version is above one that a copy brings along. Others count on meanwhile, hence the distance.
create function %[1]s.pass(version bigint) returns void language plpgsql as $$
begin
  if version < (select last_value from %[1]s.versions) then
    return;
  end if;
  perform pg_advisory_xact_lock(%[2]d, -1);
  if version >= (select last_value from %[1]s.versions) then
    perform setval('%[1]s.versions', least(version + 1000000, 9007199254740991));
  end if;
end $$;

-- Tells those who watch, if anybody does: they hold a lock, which costs less to look for than telling nobody.
create function %[1]s.tell(ear int, channel text, part text, names text[]) returns void language plpgsql as $$
declare
  news text := part || chr(10) || array_to_string(names, chr(10));
begin
  if pg_try_advisory_xact_lock(%[3]d, ear) then
    return;
  end if;
  if octet_length(news) < 7000 then
    perform pg_notify(channel, news);
  else
    perform pg_notify(channel, part || chr(10) || name) from unnest(names) name;
  end if;
end $$;

-- One commit. Records are looked for one by one (lateral, with a limit), because a plan is made once and kept: made while the
-- table is small, a join would run through the whole partition for each name ever after. Conditions: 1 absent, 2 present, 3 at version, 4 at most. Writes: 0 set, 1 delete, 2 add. State: 0 refused,
-- 1 applied, 2 late, 3 a counter leaves its range. The caller holds the partition.
create function %[1]s.apply(
  part text, ear int, channel text, not_after bigint,
  cond_names text[], cond_kinds smallint[], cond_numbers bigint[],
  names text[], kinds smallint[], vals bytea[], adds bigint[], ttls bigint[], fixed bigint[], lists boolean[],
  out state smallint,
  out seen_versions bigint[], out seen_expires bigint[], out seen_values bytea[],
  out wrote_versions bigint[], out wrote_expires bigint[], out wrote_values bytea[]
) language plpgsql as $$
declare
  now_ms constant bigint := floor(extract(epoch from clock_timestamp()) * 1000);
  holds boolean;
begin
  select bool_and(case c.kind
             when 1 then r.name is null
             when 2 then r.name is not null
             when 3 then coalesce(r.version = c.number, false)
             else %[1]s.number(r.value) <= c.number end),
         array_agg(coalesce(r.version, 0) order by c.place),
         array_agg(coalesce(r.expires, 0) order by c.place),
         array_agg(r.value order by c.place)
    into holds, seen_versions, seen_expires, seen_values
    from unnest(cond_names, cond_kinds, cond_numbers) with ordinality c(name, kind, number, place)
    left join lateral (
      select * from %[1]s.records o where o.partition = part and o.name = c.name and (o.expires is null or o.expires > now_ms)
      limit 1) r on true;
  state := case when now_ms > not_after then 2 when holds or holds is null then 1 else 0 end;
  if state <> 1 or cardinality(names) = 0 then
    return;
  end if;
  if 2 = any (kinds) and exists (
      select from unnest(names, kinds, adds) w(name, kind, add)
        left join lateral (
          select * from %[1]s.records o where o.partition = part and o.name = w.name and (o.expires is null or o.expires > now_ms)
          limit 1) r on true
       where w.kind = 2
         and %[1]s.number(r.value)::numeric + w.add not between -9223372036854775808 and 9223372036854775807) then
    state := 3;
    return;
  end if;
  if fixed is not null then
    perform %[1]s.pass(max(f)) from unnest(fixed) f;
  end if;
  with w as materialized (
    select u.place, u.name, u.kind, u.lists,
           u.kind = 0 and u.fixed > 0 and coalesce(r.version, 0) >= u.fixed as held,
           case when u.kind = 0 and u.fixed > 0 then greatest(u.fixed, r.version) else nextval('%[1]s.versions') end as version,
           case when u.kind = 1 then null
                when u.kind = 2 and r.name is not null then r.expires
                when u.kind = 0 and u.fixed > 0 and r.version >= u.fixed then r.expires
                when u.ttl > 0 then now_ms + u.ttl end as expires,
           case when u.kind = 2 then convert_to((%[1]s.number(r.value) + u.add)::text, 'UTF8')
                when u.kind = 0 and u.fixed > 0 and r.version >= u.fixed then r.value
                else u.val end as value
      from unnest(names, kinds, vals, adds, ttls, fixed, lists) with ordinality u(name, kind, val, add, ttl, fixed, lists, place)
      left join lateral (
        select * from %[1]s.records o where o.partition = part and o.name = u.name and (o.expires is null or o.expires > now_ms)
        limit 1) r on true
  ), gone as (
    delete from %[1]s.records r where r.partition = part and r.name = any (array(select w.name from w where w.kind = 1))
  ), kept as (
    insert into %[1]s.records as r (partition, name, version, expires, listed, value)
    select part, w.name, w.version, w.expires, w.lists, w.value from w where w.kind <> 1 and not coalesce(w.held, false)
    on conflict (partition, name) do update
      set version = excluded.version, expires = excluded.expires, value = excluded.value,
          listed = r.listed or excluded.listed
  )
  select array_agg(w.version order by w.place),
         array_agg(coalesce(w.expires, 0) order by w.place),
         array_agg(case when w.kind = 2 or w.held then w.value end order by w.place)
    into wrote_versions, wrote_expires, wrote_values
    from w;
  perform %[1]s.tell(ear, channel, part, names);
end $$;

-- What Fence returns. Parts that the account may not ask for, or that the service does not know, stay empty.
create function %[1]s.fence() returns text language plpgsql as $$
declare
  word   text := (select id from %[1]s.about);
  server text;
  line   text := '';
begin
  begin
    server := (select system_identifier from pg_control_system());
  exception when insufficient_privilege or undefined_function or feature_not_supported then
    server := '';
  end;
  begin
    line := left(pg_walfile_name(pg_current_wal_lsn()), 8);
  exception when insufficient_privilege or undefined_function or feature_not_supported then
    line := '';
  end;
  return concat_ws('.', word, server, line,
    (select oid from pg_database where datname = current_database()), '%[1]s.records'::regclass::oid);
end $$;
