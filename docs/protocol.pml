/*
 * The protocol of protocol.md as a Promela model. `npm run model` (scripts/model.ts) checks it
 * exhaustively with Spin, with several sets of constants, and plants bugs that must be found.
 *
 * What is here: one key on the server, with its ttl, its queue and the last sign of life of each
 * waiter; the scripts, each an atomic step, under their own names (scripts.ts); N clients, each a
 * process as far as this key goes: its place (place.ts), its tenure (tenure.ts, grant.ts), its call
 * on the way (call.ts). Commands, answers and messages take any time, and any of them can be
 * lost. A command whose answer was lost is sent again, any number of times, and a copy of it, left
 * on a connection that was given up, can reach the server at any time later. A client can stop at
 * any point for any time, for ever too, can start anew without knowing anything, can give up
 * waiting, and can pass the lock on among callers of its own (whose ttl can differ).
 *
 * Two modes:
 *
 * Without -DTIMELY nothing has to happen: time can pass before every step. This is where exclusion
 * is checked, and no bound on losses, crashes, or the length of a run is assumed.
 *
 * With -DTIMELY time passes only when everybody who is alive has done what is due: commands are
 * answered, waiters send a heartbeat each tick, holders renew and are done in HOLD ticks. FAULTS
 * times, one of these goes wrong: a crash, a pause, a lost answer, a copy that comes late. Messages
 * are lost or late without limit. Here it is checked that a waiter waits for BOUND ticks at most,
 * that nothing gets stuck, and (-DPROGRESS) that nobody is busy without end while time stands still:
 * so nobody is forgotten.
 *
 * What is left out, and why that is sound:
 *
 * - Numbers. Time is in ticks, ttl and window are 1 to 5 of them. All clocks have the same rate: the
 *   drift (guarantees.md) is for the difference, and is 0 here. `margin` only ends a lease earlier.
 *   Everything is counted down or up to a limit behind which it makes no difference, so that runs
 *   have no end and states have.
 * - A server's clock that is set back (-DBACK=1) gives the lock a tick more, as often as it likes, and no waiter: their
 *   heartbeats only make them live longer. One that is set forward: guarantees.md.
 * - A grant by handoff is recorded with the window, and not with the ttl that its waiter asked for,
 *   which is longer: then renewals have less reason to leave a ttl as it is.
 * - Fencing tokens are compared, and never counted: a message is of the grant in force, of an older
 *   one, or of one older than an answer (see `message`); a `pass` knows whether the record has moved
 *   on (see `moved`). A fencing token that goes back by itself, with the server's clock and the
 *   record both lost, is outside.
 * - Tokens are used again once nothing refers to them any more: one that nothing refers to is as good
 *   as a new one. A client has K at a time.
 * - A copy that comes late: there is one at a time, of any command. It can be applied many times.
 * - Callers of a client that pass the lease on without asking Redis: the same holder, seen from here.
 *   Several tokens of one process at a time (tryAcquire beside a line): two clients.
 * - `verify` changes nothing. `batch` does what acquire and release do where the queue is empty, or
 *   nothing. A queue that expires (10 s) has only dead waiters, who are skipped in any case.
 * - A grant by handoff has one ttl here, the window. There, callers of a process can have several, and
 *   the message says which one it was.
 * - Programs that do not use this library, DEL by hand, restarts and failovers: guarantees.md.
 * - A pass has a place where the client has a token for it (K > 1), and nothing else to give back. A client
 *   that gives up while a pass has no answer takes its next place when its releases are sent, and not
 *   before: as long as the pass is late, it cannot use those two tokens. A pass that has kept the lock has
 *   put nothing into the queue, so its place is not given back (there, it is, if the call was sent twice).
 *   The release of a place is one command, that may fail, and is not repeated or late.
 * - Errors of the server: a command that failed without an effect is one that was lost.
 */

/* ------------------------------------------------------------------ constants */

#ifndef N
#define N 2                  /* clients: 2 or 3 */
#endif
#ifndef K
#define K 1                  /* tokens of a client that the system can refer to at a time: 1 to 3; with 1, no pass takes a place */
#endif
#ifndef TTL
#define TTL 3
#endif
#ifndef SHORT
#define SHORT TTL            /* another caller's ttl */
#endif
#ifndef WINDOW
#define WINDOW 2             /* the claim window; the ttl of a grant by handoff */
#endif
#ifndef LATE
#define LATE 1               /* connections are given up, and copies come late; 2: with a pass on its way */
#endif
#ifndef PASS
#define PASS 1               /* clients with more callers of their own; 2: the first one alone */
#endif
#ifndef TRY
#define TRY 1                /* attempts that do not wait */
#endif
#ifndef RESTART
#define RESTART 1            /* clients that start anew */
#endif
#ifndef REPEAT
#define REPEAT 1             /* answers are lost, and commands sent again */
#endif
#ifndef BACK
#define BACK 0               /* the server's clock is set back */
#endif
#ifndef PAUSE
#define PAUSE 1              /* TIMELY: clients that stop, and go on */
#endif
#ifndef HOLD
#define HOLD 3               /* TIMELY: how long a caller keeps the lock at most */
#endif
#ifndef FAULTS
#define FAULTS 1             /* TIMELY: how often something goes wrong */
#endif
#ifndef BOUND
#define BOUND 5              /* TIMELY: how long a waiter waits at most */
#endif

/* Planted bugs: -DBUG=validFromAnswer */
#ifndef BUG
#define BUG 0
#endif
#define noBug 99
#define validFromAnswer      1  /* validity counts from when the answer came */
#define validFromMessage     2  /* of a handoff: from when the message came */
#define proofFromUnanswered  3  /* of a handoff: from a heartbeat that was not answered */
#define staleMessage         4  /* a message is believed whatever its fencing token */
#define sameTokenAgain       5  /* a client without a place queues again with its old token */
#define ghostHeartbeat       6  /* a heartbeat puts an absent waiter into the queue (with 4) */
#define releaseUnchecked     7  /* release deletes whoever's token */
#define renewUnchecked       8  /* renew renews whoever's token */
#define lateShortens         9  /* acquire and heartbeat set the ttl, though it was longer */
#define renewShortens       10  /* so does renew */
#define latePassServes      11  /* a copy of a pass hands over what its caller has kept */
#define heartbeatLeavesFree 12  /* a heartbeat does not hand a free lock to the first in the queue */
#define heartbeatClaimsNone 13  /* a heartbeat does not find a grant */
#define cancelSaysNothing   14  /* who gives up waiting does not say so */
#define deadStayFirst       15  /* the lock is not handed past a waiter that shows no sign of life */
#define absentWaitsOn       16  /* a client without a place goes on with its heartbeats */
#define releaseOvertakes    17  /* the release is sent before what was sent earlier is answered */
#define lostPassIsEnough    18  /* a pass of what is lost is not followed by a release */
#define asksWithoutPause    19  /* heartbeats without a pause between them */
#define renewHealsNothing   20  /* renew leaves a ttl that a clock has made too long (with BACK) */
#define passForgetsLongest  21  /* a pass puts its own ttl into the record, where a longer one was */
#define renewForgetsLongest 22  /* renew does not put its ttl into the record, where a shorter one is */
#define latePassPlaces      33  /* a copy of a pass that has kept the lock puts its place into the queue */
#define lostPlaceStays      34  /* a pass is told of another token, and its place is not given back */
#define leftPlaceStays      35  /* who gives up while a pass is on its way leaves its place behind */
#define placeOvertakes      36  /* the place of a pass comes before those who wait */
/* (of several holders: holders.pml) */
#define countIsOld          23  /* the count is read once, and not after each grant */
#define releaseFreesTwo     24  /* a release gives back one permit more than it had */
#define expiredStays        25  /* a holder whose ttl has ended still counts */
#define expiredTwice        26  /* what has been removed as ended is subtracted again by its release */
#define limitForgotten      27  /* the limits of those who hold it do not count */
#define smallOvertakes      28  /* serve looks behind a first one that does not fit */
#define newcomerOvertakes   29  /* acquire takes what there is room for, whoever waits */
#define writerOvertakes     30  /* so does the acquire of one that wants all */
#define downgradeGap        31  /* a smaller share is had by giving back, and taking again */
#define renewRaises         32  /* a late renewal brings the greater share back */

mtype:command = { nothing, acquire, attempt, heartbeat, renew, pass, passAgain, release };
mtype:answer = { silence, yes, busy, no, handed };
mtype:phase = { resting, waiting, holding, passing, leaving };

/* ------------------------------------------------------------------ state */

/* The server's: who is queued, and 1 + the time since the last heartbeat of each (0: not queued). Who
 * holds the lock: below, or in holders.pml. */
#define TOKENS (N * K)
chan queue = [TOKENS] of { byte };
byte age[TOKENS + 1];

/* Each client's: what it is about, with which token, and its one call: which, with which of the two
 * ttls, how long ago it was sent, and the answer that is on its way (until it has come). */
mtype:phase phase[N] = resting;
byte token[N];
mtype:command call[N] = nothing;
bool brief[N];
byte sent[N];
mtype:answer answer[N] = silence;

/* While it waits: how long ago the last command was sent that was answered "queued" (or the first
 * one, while that is not answered), and the messages for its token that are on their way. */
byte proven[N];
byte message[N];
#define NEW  1               /* of the grant in force */
#define PAST 2               /* of a grant that is over */
#define OLD  4               /* of a grant that is over, older than the answer that is on its way */

/* While it holds: for how long that is proven. Whoever has more than 0 believes to hold the lock. */
byte valid[N];

/* While it passes: whether the record has moved on since, because the pass has come to the server; and
 * the token that is put into the queue if the lock is handed over (0: none). */
bool moved[N];
byte place[N];

/* The place that it gives back, by a release beside its call (0: none). */
byte back[N];

/* The copy of a command that may still come. */
mtype:command late = nothing;
byte lateToken, latePlace;
bool lateBrief;

/* Of a step; 0 between steps. */
byte i, first, served, ttl, proof;
mtype:answer said = silence;

#define client(t)   (((t) - 1) / K)
#define current(t)  (token[client(t)] == (t))
#define awaited(t)  (phase[client(t)] == waiting && current(t) || phase[client(t)] == passing && place[client(t)] == (t))
#define queued(t)   (age[t] > 0)
#define live(t)     (age[t] <= WINDOW + 1)
#define ttlOf(s)    ((s) -> SHORT : TTL)
#define most(a, b)  ((a) > (b) -> (a) : (b))
#define least(a, b) ((a) < (b) -> (a) : (b))

/* ------------------------------------------------------------------ what is due, and what may fail */

#ifdef TIMELY

byte faults = FAULTS;
byte waited[N];              /* 1 + for how many ticks; 0: does not wait */
byte held[N];
bool begun[N];               /* has begun something in this tick */
bool due[N];                 /* owes a heartbeat */
bool paused[N];

#define awake     (!paused[c])
#define mayAsk    (waited[c] > 0 || !begun[c])
#define mayTry    (waited[c] == 0 && !begun[c])
#define mayBeat   (due[c] || BUG == asksWithoutPause)
#define mayRenew  (valid[c] > 0 && valid[c] <= TTL / 2 + 1)
#define mayPass   (!begun[c])
#define mayFail   (faults > 0)
#define mayRepeat (answer[c] == silence || REPEAT && faults > 0)
#define mayBreak  false
#define inTime(c) (paused[c] || call[c] == nothing && back[c] == 0 && \
  (phase[c] == resting && waited[c] == 0 || phase[c] == waiting && !due[c] || \
   phase[c] == holding && valid[c] > TTL / 2 + 1 && held[c] < HOLD))
#define tickMay   (inTime(0) && inTime(1) && inTime(N - 1))

inline onAsk(waits)  { begun[c] = true; waited[c] = (waits -> most(waited[c], 1) : 0) }
inline onBeat()      { due[c] = false }
inline onHold()      { waited[c] = 0; due[c] = false }
inline onPass()      { begun[c] = true; held[c] = 0; waited[c] = (place[c] != 0 -> 1 : 0) }
inline onNext(waits) { waited[c] = (waits -> 1 : waited[c]) }
inline onLeave()     { waited[c] = 0; held[c] = 0; due[c] = false }
inline onRest()      { held[c] = 0; due[c] = false }
inline onFault()     { faults-- }
inline onTick() {
  begun[i] = false;
  due[i] = (phase[i] == waiting);
  held[i] = (phase[i] == holding -> held[i] + 1 : held[i]);
  waited[i] = (waited[i] > 0 && !paused[i] -> waited[i] + 1 : waited[i]);
  assert(waited[i] <= 1 + BOUND)                                      /* nobody is forgotten */
}

#else

#define awake     true
#define mayAsk    true
#define mayTry    true
#define mayBeat   true
#define mayRenew  true
#define mayPass   true
#define mayFail   true
#define mayRepeat true
#define mayBreak  LATE
#define tickMay   true

inline onAsk(waits)  { skip }
inline onBeat()      { skip }
inline onHold()      { skip }
inline onPass()      { skip }
inline onNext(waits) { skip }
inline onLeave()     { skip }
inline onRest()      { skip }
inline onFault()     { skip }
inline onTick()      { skip }

#endif

/* ------------------------------------------------------------------ the scripts */

/* Their arguments: a token `t`, and `ttl`. What they answer is `said`. */

#ifdef LIMIT
#include "holders.pml"
#else

#define PLACE (K > 1)

/* The token that holds the lock (0: it is free) and what is left of its ttl; the longest ttl of that
 * tenure, as the record has it. */
byte lock, left, longest;

#define holds(t)   (lock == (t))
#define leftOf(t)  left
#define isThere(t) (lock == (t))
#define mayGoBack  (lock != 0 && left <= TTL)

inline changeTo(t, life) {
  if
  :: lock != 0 && (current(lock) || place[client(lock)] == lock) && (message[client(lock)] & NEW) ->
     message[client(lock)] = (message[client(lock)] & ~NEW) | PAST
  :: else
  fi;
  lock = t;
  left = life;
  longest = life
}

/* [serve] The message goes out whether or not anybody listens. Who waits has listened before it
 * sent anything, so it can come before any answer. */
inline serve() {
  served = 0;
  do
  :: served == 0 && len(queue) > 0 ->
     queue?<first>;
     if
     :: live(first) ->
        printf("        handed to token %d\n", first);
        changeTo(first, WINDOW);
        served = first;
        if
        :: awaited(first) ->
           message[client(first)] = message[client(first)] | NEW
        :: else
        fi
     :: else ->
        if
        :: BUG == deadStayFirst -> break
        :: else
        fi
     fi;
     queue?first;
     age[first] = 0
  :: else -> break
  od
}

inline extend(bug) {
  left = (BUG == bug -> ttl : most(left, ttl));
  longest = most(longest, ttl)
}

/* [acquire] */
inline doAcquire(t, waits) {
  if
  :: lock == 0 ->
     serve();
     if
     :: served == 0 -> changeTo(t, ttl)
     :: else
     fi
  :: else
  fi;
  if
  :: lock == t -> extend(lateShortens); said = yes
  :: else ->
     said = busy;
     if
     :: waits && !queued(t) -> queue!t; age[t] = 1
     :: waits && queued(t) -> age[t] = 1
     :: else
     fi
  fi
}

/* [heartbeat] */
inline doHeartbeat(t) {
  if
  :: lock == t && BUG != heartbeatClaimsNone -> extend(lateShortens); said = yes
  :: (lock != t || BUG == heartbeatClaimsNone) && !queued(t) && BUG != ghostHeartbeat -> said = no
  :: else ->
     if
     :: !queued(t) -> queue!t
     :: else
     fi;
     age[t] = 1;
     said = busy;
     if
     :: lock == 0 && BUG != heartbeatLeavesFree ->
        serve();
        if
        :: lock == t -> extend(lateShortens); said = yes
        :: else
        fi
     :: else
     fi
  fi
}

/* [renew] */
inline doRenew(t) {
  if
  :: lock == t || BUG == renewUnchecked && lock != 0 ->
     longest = (BUG == renewForgetsLongest -> longest : most(longest, ttl));
     if
     :: left <= ttl || BUG == renewShortens -> left = ttl
     :: left > ttl && BUG != renewShortens && BUG != renewHealsNothing -> left = least(left, most(longest, ttl))
     :: else
     fi;
     assert(left <= TTL);                                             /* it heals */
     said = yes
  :: else -> said = no
  fi
}

/* [release] Also what cancels a wait. */
inline doRelease(t) {
  if
  :: lock == t || BUG == releaseUnchecked && lock != 0 ->
     serve();
     if
     :: served == 0 -> changeTo(0, 0)
     :: else
     fi
  :: else ->
     if
     :: queued(t) -> queue??eval(t); age[t] = 0
     :: else
     fi;
     if
     :: lock == 0 -> serve()
     :: else
     fi
  fi;
  said = yes
}

/* [pass] It hands over only if the record is still as its sender knows it. Then the place comes to the
 * end of the queue, before the first one is taken out. */
inline doPass(t, p, again) {
  if
  :: lock != t -> said = no
  :: else ->
     if
     :: (again) || moved[client(t)] && current(t) ->
        if
        :: BUG == latePassServes -> serve()
        :: BUG == latePassPlaces && p != 0 && !queued(p) -> queue!p; age[p] = 1
        :: else
        fi;
        extend(noBug)
     :: else ->
        if
        :: p != 0 && len(queue) > 0 && !queued(p) ->
           queue!p; age[p] = 1;
           do
           :: BUG == placeOvertakes ->
              queue?<first>;
              if
              :: first == p -> break
              :: else -> queue?first; queue!first
              fi
           :: else -> break
           od
        :: else
        fi;
        serve();
        left = (served == 0 -> ttl : left);
        longest = (served == 0 -> most(longest, ttl) : longest)
     fi;
     longest = (served == 0 && BUG == passForgetsLongest -> ttl : longest);
     said = (served == 0 -> yes : (p != 0 -> busy : handed));
     moved[client(t)] = (current(t) && (phase[client(t)] == passing || call[client(t)] == pass) -> true : moved[client(t)])
  fi
}

inline tellState() { printf("        says %e; holds token %d for %d, %d queued\n", said, lock, left, len(queue)) }

inline expire() {
  if
  :: left == 1 -> changeTo(0, 0)
  :: else -> left = most(left, 1) - 1
  fi
}

inline goBack() { left++ }

/* One holder at a time. */
inline exclude() {
  do
  :: i < N -> assert(i == c || proof == 0 || valid[i] == 0); i++
  :: else -> break
  od;
  i = 0
}

inline with(isBrief) { ttl = ttlOf(isBrief) }
inline withCopy() { ttl = ttlOf(lateBrief) }
inline copyShare() { skip }
inline dropCopy() { late = nothing; lateToken = 0; latePlace = 0; lateBrief = false }
inline wholeShare() { skip }
inline onIdle() { skip }
inline done() { first = 0; served = 0; ttl = 0; said = silence }

#endif

inline execute(what, t, p) {
  printf("Redis   %e of token %d\n", what, t);
  if
  :: what == acquire   -> doAcquire(t, true)
  :: what == attempt   -> doAcquire(t, false)
  :: what == heartbeat -> doHeartbeat(t)
  :: what == renew     -> doRenew(t)
  :: what == pass      -> doPass(t, p, false)
  :: what == passAgain -> doPass(t, p, true)
  :: what == release   -> doRelease(t)
  fi;
  tellState()
}

/* ------------------------------------------------------------------ a client */

#define unused(t) (!isThere(t) && !queued(t) && !current(t) && back[client(t)] != (t) && lateToken != (t) && latePlace != (t))
#define fresh     (unused(c * K + 1) -> c * K + 1 : (K > 1 && unused(c * K + 2) -> c * K + 2 : (K > 2 && unused(c * K + 3) -> c * K + 3 : 0)))

inline settle() { call[c] = nothing; brief[c] = false; sent[c] = 0; answer[c] = silence }

inline send(what, isBrief) {
  printf("%d       sends %e\n", c, what);
  call[c] = what; brief[c] = isBrief; sent[c] = 0; answer[c] = silence
}

inline forget() { proven[c] = 0; message[c] = 0; valid[c] = 0; wholeShare() }

/* The record has moved on: a copy of the pass that comes from here on knows another one. */
inline passed() {
  if
  :: late == pass && lateToken == token[c] ->
     late = passAgain;
     latePlace = (BUG == latePassPlaces -> latePlace : 0)
  :: else
  fi;
  moved[c] = false
}

/* A pass is sent, with a place where there is a token for one. */
inline askToPass(isBrief) {
  send(pass, isBrief);
  place[c] = (back[c] == 0 && PLACE -> fresh : 0)
}

/* The call is over, and a copy of it may have put the place into the queue. */
inline returnPlace(bug) {
  back[c] = (place[c] != 0 && BUG != bug -> place[c] : back[c]);
  message[c] = (phase[c] == passing -> 0 : message[c]);
  place[c] = 0
}

inline rest() {
  printf("%d       rests\n", c);
  settle(); forget(); moved[c] = false; place[c] = 0; phase[c] = resting; token[c] = 0; onRest()
}

inline ask(what, isBrief) {
  token[c] = fresh; phase[c] = waiting; send(what, isBrief); onAsk(what == acquire)
}

/* Its place or its lease is given back, by a release behind what is still on its way. */
inline leave() {
  printf("%d       leaves\n", c);
  if
  :: moved[c] && call[c] != pass -> passed()
  :: else
  fi;
  forget(); phase[c] = leaving; onLeave();
  if
  :: call[c] == nothing || call[c] == renew -> send(release, false)
  :: BUG == releaseOvertakes && call[c] != nothing && call[c] != renew ->
     late = call[c]; lateToken = token[c]; latePlace = place[c]; returnPlace(leftPlaceStays); send(release, false)
  :: else
  fi
}

/* Holds the lock, as far as it knows, for `proof` ticks. */
inline hold() {
  printf("%d       holds for %d\n", c, proof);
#ifndef ONLY_EXCLUSION
  assert(proof == 0 || holds(token[c]) && leftOf(token[c]) >= proof); /* the server agrees */
#endif
  phase[c] = holding; valid[c] = proof; proven[c] = 0; message[c] = 0; moved[c] = false; place[c] = 0;
  onHold();
  exclude();
  proof = 0
}

/* What the answer to its call proves: the ttl, counted from when it was sent. */
inline prove() {
  proof = (BUG == validFromAnswer -> ttlOf(brief[c]) : ttlOf(brief[c]) - sent[c])
}

#define mayHandOver (PASS == 1 || PASS == 2 && c == 0)
#define answered  (answer[c] != silence && awake)

proctype aClient(byte c) {
  do

  /* -- it asks: with a fresh token */
  :: d_step { phase[c] == resting && awake && mayAsk && fresh != 0 -> ask(acquire, false) }
  :: d_step { SHORT < TTL && phase[c] == resting && awake && mayAsk && fresh != 0 -> ask(acquire, true) }
  :: d_step { TRY && phase[c] == resting && awake && mayTry && fresh != 0 -> ask(attempt, false) }

  /* -- it waits: the answer, heartbeats, messages */
  :: d_step { phase[c] == waiting && answered && answer[c] == yes ->
       prove();
       settle();
       if
       :: proof > 0 -> hold()
       :: else -> leave()                                             /* too late */
       fi }
  :: d_step { phase[c] == waiting && answered && answer[c] == busy ->
       proven[c] = least(sent[c], WINDOW);
       message[c] = (BUG == staleMessage || BUG == ghostHeartbeat -> message[c] : message[c] & ~OLD);
       settle() }
  :: d_step { phase[c] == waiting && answered && answer[c] == no ->
       if
       :: BUG == sameTokenAgain -> send(acquire, false); proven[c] = 0
       :: BUG == absentWaitsOn -> settle()
       :: else -> rest()                                              /* and asks again, TIMELY */
       fi }
  :: d_step { phase[c] == waiting && call[c] == nothing && awake && mayBeat ->
       send(heartbeat, false);
       proven[c] = (BUG == proofFromUnanswered -> 0 : proven[c]);
       onBeat() }
  :: d_step { SHORT < TTL && phase[c] == waiting && call[c] == nothing && awake && mayBeat ->
       send(heartbeat, true);
       onBeat() }
  :: d_step { phase[c] == waiting && message[c] != 0 && awake && proven[c] < WINDOW ->
       printf("%d       is told of its grant\n", c);
#ifndef ONLY_EXCLUSION
       assert(message[c] & NEW);                                      /* its fencing token is the last */
#endif
       proof = (BUG == validFromMessage -> WINDOW : WINDOW - proven[c]);
       hold() }
  :: d_step { message[c] != 0 -> message[c] = 0 }                       /* lost, or not believed */

  /* -- it holds */
  :: d_step { phase[c] == holding && call[c] == nothing && awake && mayRenew -> send(renew, false) }
  :: d_step { SHORT < TTL && phase[c] == holding && call[c] == nothing && awake && mayRenew -> send(renew, true) }
  :: d_step { phase[c] == holding && answered ->
       if
       :: call[c] == renew && answer[c] == yes -> prove(); proof = most(proof, valid[c]); settle(); hold()
       :: call[c] == renew && answer[c] == no -> settle(); leave()
       :: else -> settle()                                            /* sent when it still waited */
       fi }

#ifdef LIMIT
  /* -- it makes its share smaller: it counts on the smaller one from here on, whatever the answer */
  :: d_step { DOWNGRADE && phase[c] == holding && !less[c] && wants(c) > 1 && call[c] == nothing && awake ->
       printf("%d       wants less\n", c);
       less[c] = true; send(renew, false) }
#endif

  /* -- its caller is done, and it has more of them */
  :: d_step { mayHandOver && phase[c] == holding && (call[c] == nothing || call[c] == renew) && awake && mayPass ->
       forget(); phase[c] = passing; askToPass(false); onPass() }
  :: d_step { mayHandOver && SHORT < TTL && phase[c] == holding && (call[c] == nothing || call[c] == renew) && awake && mayPass ->
       forget(); phase[c] = passing; askToPass(true); onPass() }
  :: d_step { phase[c] == passing && call[c] == nothing && awake -> askToPass(false) }
  :: d_step { phase[c] == passing && answered && answer[c] == yes ->
       passed();
       place[c] = 0;
       prove();
       settle();
       if
       :: proof > 0 -> hold()
       :: else -> leave()
       fi }

  /* -- it was handed over, and the place is in the queue */
  :: d_step { phase[c] == passing && answered && answer[c] == busy ->
       printf("%d       waits with token %d\n", c, place[c]);
       passed();
       proven[c] = least(sent[c], WINDOW);
       token[c] = place[c]; place[c] = 0; phase[c] = waiting;
       settle() }
  /* -- a message overtakes that answer (other copies of the pass find another token: they do nothing) */
  :: d_step { phase[c] == passing && message[c] != 0 && awake && sent[c] < WINDOW ->
       printf("%d       is told of its grant\n", c);
#ifndef ONLY_EXCLUSION
       assert(message[c] & NEW);
#endif
       passed();
       proof = WINDOW - sent[c];
       token[c] = place[c];
       settle();
       hold() }

  /* -- it gives up waiting, is done, or has found its validity over */
  :: d_step { (phase[c] == waiting || phase[c] == holding || phase[c] == passing) && awake ->
       if
       :: BUG == cancelSaysNothing && phase[c] == waiting -> onLeave(); rest()
       :: else -> leave()
       fi }
  :: d_step { phase[c] == leaving && answered ->
       if
       :: moved[c] -> passed()
       :: else
       fi;
       returnPlace(leftPlaceStays); settle(); send(release, false) }

  /* -- what a pass may have put into the queue is given back */
  :: d_step { back[c] != 0 -> execute(release, back[c], 0); back[c] = 0; done() }
  :: d_step { mayBreak && back[c] != 0 -> back[c] = 0 }

  /* -- it starts anew */
  :: d_step { RESTART && phase[c] != resting && mayFail -> onFault(); onLeave(); back[c] = 0; rest() }
#ifdef TIMELY
  :: d_step { PAUSE && (phase[c] == waiting || phase[c] == holding) && awake && mayFail ->
       printf("%d       stops\n", c);
       onFault(); paused[c] = true }
  :: d_step { paused[c] -> paused[c] = false; waited[c] = least(waited[c], 1) }
#endif

  /* -- its call reaches the server; where its answer changes nothing any more, that has come too */
  :: d_step { call[c] != nothing && mayRepeat ->
       if
       :: answer[c] != silence -> onFault()
       :: else
       fi;
       with(brief[c]);
       execute(call[c], token[c], place[c]);
       if
       :: call[c] == release || call[c] == attempt && said == busy || phase[c] == passing && said == handed -> rest()
       :: phase[c] == passing && said == no && BUG == lostPassIsEnough -> returnPlace(lostPlaceStays); rest()
       :: phase[c] == passing && said == no && BUG != lostPassIsEnough ->
          settle(); returnPlace(lostPlaceStays);
          leave();
          onNext(back[c] != 0)                                        /* it takes another place */
       :: else ->
          answer[c] = said;
          message[c] = (said == busy && phase[c] == waiting && message[c] != 0 -> OLD : message[c])
       fi;
       done() }
  /* -- the same, and the answer is lost: it will be sent again */
  :: d_step { REPEAT && (call[c] == release || call[c] == attempt || call[c] == pass) && mayFail ->
       onFault();
       with(brief[c]);
       execute(call[c], token[c], place[c]);
       answer[c] = silence;
       done() }
  /* -- its connection is given up: a copy is left behind */
  :: d_step { (LATE == 1 || LATE == 2 && call[c] == pass) && call[c] != nothing && mayFail ->
       printf("%d       leaves a copy of %e behind\n", c, call[c]);
       onFault();
       late = call[c]; lateToken = token[c]; latePlace = place[c]; lateBrief = brief[c]; copyShare() }
  /* -- the same, and nothing is sent again: an error */
  :: d_step { mayBreak && (LATE == 1 || call[c] == pass) && (phase[c] != waiting || call[c] == heartbeat) && call[c] != nothing ->
       if
       :: phase[c] == leaving && call[c] == release -> rest()
       :: phase[c] == leaving && call[c] != release ->
          if
          :: moved[c] -> passed()
          :: else
          fi;
          returnPlace(leftPlaceStays); settle(); send(release, false)
       :: else -> returnPlace(leftPlaceStays); settle()
       fi }
  od
}

proctype leftBehind() {
  do
  :: d_step { late != nothing ->
       printf("late:\n");
       withCopy();
       execute(late, lateToken, latePlace);
#ifdef TIMELY
       dropCopy();
#endif
       done() }
  :: d_step { late != nothing -> dropCopy() }
  od
}

proctype clock() {
  do
  :: d_step { tickMay ->
       printf("tick\n");
       onIdle();
       expire();
       do
       :: i < N ->
          valid[i] = most(valid[i], 1) - 1;
          sent[i] = (call[i] == nothing || call[i] == release -> 0 : least(sent[i] + 1, ttlOf(brief[i])));
          proven[i] = (phase[i] == waiting -> least(proven[i] + 1, WINDOW) : 0);
          onTick();
          i++
       :: else -> break
       od;
       i = 1;
       do
       :: i <= TOKENS ->
#if !LATE && !RESTART
          assert(!isThere(i) && !queued(i) || current(i) || place[client(i)] == i || back[client(i)] == i); /* nothing is left */
#endif
          age[i] = (queued(i) && live(i) -> age[i] + 1 : age[i]); i++
       :: else -> break
       od;
       i = 0 }
#ifdef PROGRESS
progress: skip
#endif
  :: d_step { BACK && mayGoBack ->
       printf("the server's clock is set back\n");
       goBack() }
  od
}

init {
  atomic {
    do
    :: i < N -> run aClient(i); i++
    :: else -> break
    od;
    i = 0;
    run clock();
    if
    :: LATE || BUG == releaseOvertakes -> run leftBehind()
    :: else
    fi
  }
}
