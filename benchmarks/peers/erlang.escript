#!/usr/bin/env escript
%% Erlang/OTP: a process for each agent, on all cores, and Mnesia for what is stored.
%%! +P 300000

%% Asked as the other scripts are, see contest.py. A turn is one transaction of Mnesia, of one row in a table
%% on disk (`disc_copies`). Mnesia answers before its log is written (after `kill -9` all of it is gone), so a
%% round has one `sync_log` for all of its turns, which is less than what greenroom's "process" promises, or
%% one for each turn for "power". Nothing leaves memory and is loaded again, so there are no reloads; runs are
%% bare requests.

-mode(compile).

-define(SLOTS, 64).
-define(PAUSE, 50).
-define(NOTES, 20).
-define(NOTE, 96).
-define(BARE, "a process each; nothing is stored").
-define(STORED, "a process each; Mnesia, one row a turn, ").

%% What it does: each workload's name, its note, and a function that prepares it and returns a round.

workloads(Quick) ->
    Pick = fun(Full, Small) -> case Quick of true -> Small; false -> Full end end,
    Thousand = Pick(1000, 50),
    Many = Pick(10000, 200),
    [
        {"fan-out 1,000", ?BARE, fun() -> fan_out(Thousand, Pick(100, 2)) end},
        {"fan-out 10,000", ?BARE, fun() -> fan_out(Many, Pick(20, 1)) end},
        {"ping-pong", ?BARE, fun() -> ping_pong(Pick(200000, 50)) end},
        {"wait", ?BARE, fun() -> waits(Thousand) end},
        {"spawn 1,000", ?BARE ++ "; ready: has answered once", fun() -> spawned(Thousand, bare) end},
        {"spawn 10,000", ?BARE ++ "; ready: has answered once", fun() -> spawned(Many, bare) end},
        {"spawn 1,000, stored", ?STORED ++ "one sync for all; ready: has had one turn",
            fun() -> open_store(), spawned(Thousand, stored) end},
        {"turns process", ?STORED ++ "one sync for all", fun() -> turns(Thousand, Pick(3, 1), once) end},
        {"turns power", ?STORED ++ "a sync for each", fun() -> turns(Thousand, 1, each) end},
        {"runs 1,000", ?BARE, fun() -> runs(Thousand, Pick(50, 1)) end},
        {"runs 10,000", ?BARE, fun() -> runs(Many, Pick(5, 1)) end},
        {"io", "64 at once; " ++ ?BARE, fun() -> waiting_turns(Pick(1000, 128)) end},
        {"memory", ?BARE ++ "; has had one turn", fun() -> memory(Pick(20000, 500)) end}
    ].

%% An agent

start(Kind) -> start(Kind, 0).

start(Kind, State) -> spawn_link(fun() -> agent(Kind, State, make_ref()) end).

agent(Kind, State, Id) ->
    receive
        {ball, Number, From} ->
            From ! {heard, Number + 1},
            agent(Kind, State, Id);
        {square, Number, From} ->
            From ! {heard, Number * Number},
            agent(Kind, State, Id);
        {wait, Milliseconds, From} ->
            receive after Milliseconds -> ok end,
            From ! {heard, 1},
            agent(Kind, State, Id);
        {turn, Given, From} ->
            {Count, Next} = advance(State, Given),
            store(Kind, Id, Next),
            From ! {heard, Count},
            agent(Kind, Next, Id)
    end.

new_state() -> #{n => 0, notes => [binary:copy(<<"-">>, ?NOTE) || _ <- lists:seq(1, ?NOTES)]}.

advance(Before, _) when is_integer(Before) -> {Before + 1, Before + 1};
advance(#{n := Before, notes := Notes}, Given) ->
    Number = Before + 1,
    {Kept, [_ | Rest]} = lists:split(Number rem ?NOTES, Notes),
    Text = integer_to_list(Given),
    Note = list_to_binary([lists:duplicate(?NOTE - length(Text), $\s), Text]),
    {Number, #{n => Number, notes => Kept ++ [Note | Rest]}}.

store(bare, _, _) -> ok;
store(Kind, Id, State) ->
    {atomic, ok} = mnesia:transaction(fun() -> mnesia:write({agent, Id, State}) end),
    case Kind of each -> ok = mnesia:sync_log(); _ -> ok end.

%% Mnesia in a folder of its own

open_store() ->
    Folder = string:trim(os:cmd("mktemp -d -t peers-bench-XXXXXX")),
    put(folder, Folder),
    application:set_env(mnesia, dir, Folder),
    application:set_env(mnesia, dump_log_write_threshold, 50000),
    ok = mnesia:create_schema([node()]),
    ok = mnesia:start(),
    {atomic, ok} = mnesia:create_table(agent, [{disc_copies, [node()]}]).

close_store() ->
    case get(folder) of
        undefined -> ok;
        Folder -> mnesia:stop(), file:del_dir_r(Folder)
    end.

%% Rounds: each a function that returns the values of one

fan_out(Number, Times) ->
    Children = [start(bare) || _ <- lists:seq(1, Number)],
    fun() ->
        {Seconds, Total} = timed(fun() ->
            lists:sum([asked(ball, Children, lists:seq(0, Number - 1)) || _ <- lists:seq(1, Times)])
        end),
        right(Total, Times * Number * (Number + 1) div 2),
        [2 * Times * Number / Seconds]
    end.

ping_pong(Times) ->
    Child = start(bare),
    fun() ->
        {Seconds, Last} = timed(fun() -> rally(Child, 0, Times) end),
        right(Last, Times),
        [2 * Times / Seconds]
    end.

rally(_, Number, 0) -> Number;
rally(Child, Number, Left) ->
    Child ! {ball, Number, self()},
    receive {heard, More} -> rally(Child, More, Left - 1) end.

waits(Number) ->
    fun() ->
        Made = [timed(fun() -> start(bare) end) || _ <- lists:seq(1, Number)],
        right(first_turns([Child || {_, Child} <- Made]), Number),
        [stop(Child) || {_, Child} <- Made],
        Times = lists:sort([Seconds * 1.0e6 || {Seconds, _} <- Made]),
        [lists:nth(trunc(Number * Part) + 1, Times) || Part <- [0.5, 0.99]]
    end.

spawned(Number, Kind) ->
    fun() ->
        {Seconds, Children} = timed(fun() ->
            Children = [start(Kind) || _ <- lists:seq(1, Number)],
            right(first_turns(Children), Number),
            case Kind of bare -> ok; stored -> ok = mnesia:sync_log() end,
            Children
        end),
        lists:foreach(fun stop/1, Children),
        [Number / Seconds]
    end.

turns(Number, Times, Sync) ->
    open_store(),
    Children = [start(Sync, new_state()) || _ <- lists:seq(1, Number)],
    put(turns, 0),
    fun() ->
        Before = get(turns),
        {Seconds, _} = timed(fun() ->
            [
                right(asked(turn, Children, lists:duplicate(Number, Turn)), Number * Turn)
             || Turn <- lists:seq(Before + 1, Before + Times)
            ],
            ok = mnesia:sync_log()
        end),
        put(turns, Before + Times),
        right(mnesia:table_info(agent, size), Number),
        [Number * Times / Seconds]
    end.

runs(Number, Times) ->
    Children = [start(bare) || _ <- lists:seq(1, Number)],
    Parent = spawn_link(fun() -> parent(Children) end),
    fun() ->
        {Seconds, _} = timed(fun() ->
            [
                right(asked(squares, [Parent], [0]), (Number - 1) * Number * (2 * Number - 1) div 6)
             || _ <- lists:seq(1, Times)
            ]
        end),
        [Times * (Number + 1) / Seconds]
    end.

parent(Children) ->
    receive
        {squares, _, From} ->
            From ! {heard, asked(square, Children, lists:seq(0, length(Children) - 1))},
            parent(Children)
    end.

waiting_turns(Number) ->
    Children = [start(bare) || _ <- lists:seq(1, Number)],
    fun() ->
        {Seconds, Done} = timed(fun() ->
            {First, Rest} = lists:split(?SLOTS, Children),
            [Child ! {wait, ?PAUSE, self()} || Child <- First],
            one_by_one(Rest, ?SLOTS, 0)
        end),
        right(Done, Number),
        [Seconds / ((Number + ?SLOTS - 1) div ?SLOTS * ?PAUSE / 1000)]
    end.

one_by_one(_, 0, Done) -> Done;
one_by_one([Child | Rest], Busy, Done) ->
    receive {heard, 1} -> Child ! {wait, ?PAUSE, self()}, one_by_one(Rest, Busy, Done + 1) end;
one_by_one([], Busy, Done) ->
    receive {heard, 1} -> one_by_one([], Busy - 1, Done + 1) end.

memory(Number) ->
    first_turns([start(bare) || _ <- lists:seq(1, 1000)]),
    fun() ->
        Before = resident_kib(),
        first_turns([start(bare) || _ <- lists:seq(1, Number)]),
        [(resident_kib() - Before) / Number]
    end.

%% What rounds need

asked(What, Children, Values) ->
    Me = self(),
    lists:foreach(fun({Child, Value}) -> Child ! {What, Value, Me} end, lists:zip(Children, Values)),
    lists:foldl(fun(_, Sum) -> receive {heard, Value} -> Sum + Value end end, 0, Children).

first_turns(Children) -> asked(turn, Children, [1 || _ <- Children]).

stop(Child) ->
    unlink(Child),
    exit(Child, kill).

timed(Work) ->
    Begun = erlang:monotonic_time(nanosecond),
    Result = Work(),
    {(erlang:monotonic_time(nanosecond) - Begun) / 1.0e9, Result}.

right(Found, Found) -> ok;
right(Found, Expected) -> error({wrong_result, Found, instead_of, Expected}).

resident_kib() ->
    [erlang:garbage_collect(Process) || Process <- processes()],
    {ok, Text} = file:read_file("/proc/self/smaps_rollup"),
    {match, [Pss]} = re:run(Text, "\nPss: +(\\d+)", [{capture, all_but_first, list}]),
    list_to_integer(Pss).

%% The script

main(Words) ->
    logger:set_primary_config(level, none),
    Workloads = workloads(lists:member("--quick", Words)),
    case [Word || Word <- Words, hd(Word) =/= $-] of
        [Name] ->
            {Name, Note, Prepare} = lists:keyfind(Name, 1, Workloads),
            Version = version(),
            Round = Prepare(),
            tell("{\"note\": \"~s\", \"version\": \"~s\"}", [Note, Version]),
            answer(Round),
            close_store();
        [] ->
            Lines = [io_lib:format("\"~s\": \"~s\"", [Name, Note]) || {Name, Note, _} <- Workloads],
            tell("{~s}", [lists:join(", ", Lines)])
    end.

version() ->
    case application:load(mnesia) of
        ok ->
            {ok, Mnesia} = application:get_key(mnesia, vsn),
            io_lib:format("erlang ~s, mnesia ~s", [erlang:system_info(otp_release), Mnesia]);
        {error, _} ->
            io:format(standard_error, "there is no Mnesia: Debian has it in erlang-mnesia~n", []),
            halt(1)
    end.

answer(Round) ->
    case io:get_line("") of
        eof -> ok;
        _ ->
            erlang:garbage_collect(),
            tell("[~s]", [lists:join(", ", [io_lib:format("~w", [Value]) || Value <- Round()])]),
            answer(Round)
    end.

tell(Format, Values) -> io:format(Format ++ "~n", Values).
