/*
 * The server's half of protocol.pml for keys that several can hold: semaphores (holders.ts and
 * semaphoreScripts.ts), and readers and a writer. It takes the place of the mutex's where LIMIT is
 * defined; queue, waiters, messages and the life of a client are those of protocol.pml.
 *
 * Client c wants the share Sc within the limit Lc. For a semaphore a share is a number of permits. A
 * reader's is 1, and a writer's is all (S = LIMIT), which it can make smaller (DOWNGRADE).
 *
 * What is checked beside what protocol.pml says: whoever is proven to hold has no more together than
 * the smallest of their limits; nobody is granted anything while somebody alive stands before it; and
 * with -DTIMELY, what there is room for is taken within a tick.
 *
 * What is left out: a call removes all holders whose ttl has ended, and serves all that fit (there, 32
 * at most, and then the next one is told to ask). A client has one place (there, as many as fit). The
 * server's clock is not set back: a holder's ttl follows the same rule as the lock's.
 */

#ifndef DOWNGRADE
#define DOWNGRADE 0
#endif
#ifndef S0
#define S0 1
#endif
#ifndef S1
#define S1 1
#endif
#ifndef S2
#define S2 1
#endif
#ifndef L0
#define L0 LIMIT
#endif
#ifndef L1
#define L1 LIMIT
#endif
#ifndef L2
#define L2 LIMIT
#endif

#define wants(c)   ((c) == 0 -> S0 : ((c) == 1 -> S1 : S2))
#define limitOf(c) ((c) == 0 -> L0 : ((c) == 1 -> L1 : L2))

/* Of each token its share (0: no entry), what is left of its ttl (0: it has ended, removed or not), and
 * the longest ttl of its tenure; and the sum of the shares, as it is kept beside them. */
byte has[TOKENS + 1], left[TOKENS + 1], longest[TOKENS + 1];
byte used;

/* Which clients have made their share smaller; the copy of a command that may still come says it, too. */
bool less[N], lateLess;

/* Of a step; 0 between steps. */
byte share, smallest, n, ahead, total;
bool ours;

#define holds(t)   (left[t] > 0)
#define leftOf(t)  left[t]
#define isThere(t) (has[t] > 0)
#define mayGoBack  false
#define PLACE      false
#define believed(c) (less[c] -> 1 : wants(c))

/* ------------------------------------------------------------------ parts of the scripts */

/* A grant is over: a message of it is of the past. */
inline over(t) {
  if
  :: current(t) && (message[client(t)] & NEW) -> message[client(t)] = (message[client(t)] & ~NEW) | PAST
  :: else
  fi
}

/* [drop] */
inline drop(t, freed) {
  over(t);
  used = most(used, freed) - (freed);
  has[t] = 0; left[t] = 0; longest[t] = 0
}

/* [keep] The key, and all beside it, ends with the last ttl. */
inline keep() {
  n = 1;
  do
  :: n <= TOKENS && left[n] == 0 -> n++
  :: else -> break
  od;
  if
  :: n > TOKENS ->
     n = 1;
     do
     :: n <= TOKENS -> has[n] = 0; longest[n] = 0; n++
     :: else -> break
     od;
     used = 0
  :: else
  fi;
  n = 0
}

/* [look] */
inline look() {
  total = 1;
  do
  :: total <= TOKENS ->
     if
     :: isThere(total) && !holds(total) && BUG != expiredStays -> drop(total, has[total])
     :: else
     fi;
     total++
  :: else -> break
  od;
  total = 0;
  keep()
}

/* [all] The smallest limit of those who hold it. */
inline all() {
  smallest = 255;
  n = 1;
  do
  :: n <= TOKENS ->
     if
     :: isThere(n) && BUG != limitForgotten -> smallest = least(smallest, limitOf(client(n)))
     :: else
     fi;
     n++
  :: else -> break
  od;
  n = 0
}

#define room(t) (used + wants(client(t)) <= least(smallest, limitOf(client(t))))

/* [put] */
inline put(t, life) {
  /* nobody alive stands before it */
  ours = false; n = len(queue);
  do
  :: n > 0 ->
     queue?ahead; queue!ahead;
     ours = ours || ahead == t;
     assert(ours || !live(ahead));
     n--
  :: else -> break
  od;
  ours = false; ahead = 0;
  has[t] = wants(client(t)); left[t] = life; longest[t] = life;
  used = used + has[t]
}

/* [serve] While there is room for the first one. The count is that after each grant. */
inline serve() {
  all();
  served = used;
  do
  :: len(queue) > 0 ->
     used = (BUG == countIsOld -> served : used);
     queue?<first>;
     if
     :: live(first) && !room(first) && BUG == smallOvertakes ->
        total = 1;
        do
        :: total <= TOKENS && !(queued(total) && live(total) && room(total)) -> total++
        :: else -> break
        od;
        first = (total <= TOKENS -> total : first);
        total = 0
     :: else
     fi;
     if
     :: live(first) && room(first) ->
        printf("        handed to token %d\n", first);
        put(first, WINDOW);
        if
        :: phase[client(first)] == waiting && current(first) ->
           message[client(first)] = message[client(first)] | NEW
        :: else
        fi;
        all()
     :: live(first) && !room(first) -> break
     :: else                                                          /* it is dead */
     fi;
     queue??eval(first);
     age[first] = 0
  :: else -> break
  od;
  served = 0
}

inline extend(t) {
  longest[t] = most(longest[t], ttl);
  left[t] = least(longest[t], most(left[t], ttl))
}

/* ------------------------------------------------------------------ the scripts */

#define mayTake(t) (room(t) && (len(queue) == 0 || BUG == newcomerOvertakes || BUG == writerOvertakes && wants(client(t)) == LIMIT))

/* [acquire] */
inline doAcquire(t, waits) {
  look();
  all();
  if
  :: !holds(t) && !queued(t) && mayTake(t) -> put(t, ttl)
  :: !holds(t) && !(!queued(t) && mayTake(t)) && len(queue) > 0 ->
     serve();
     if
     :: !holds(t) && len(queue) == 0 && room(t) -> put(t, ttl)
     :: else
     fi
  :: else
  fi;
  if
  :: holds(t) -> extend(t); said = yes
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
  look();
  if
  :: !holds(t) && queued(t) -> age[t] = 1; serve()
  :: else
  fi;
  if
  :: holds(t) -> extend(t); said = yes
  :: !holds(t) && queued(t) -> said = busy
  :: else -> said = no
  fi
}

/* [renew] Also with a smaller share, and never with a greater one. */
inline doRenew(t) {
  if
  :: holds(t) ->
     extend(t);
     said = yes;
     if
     :: share < has[t] && BUG == downgradeGap ->
        drop(t, has[t]); keep(); serve();
        if
        :: used + share <= least(smallest, limitOf(client(t))) ->
           has[t] = share; left[t] = ttl; longest[t] = ttl; used = used + share
        :: else -> said = no
        fi
     :: share < has[t] && BUG != downgradeGap ->
        used = used - (has[t] - share); has[t] = share;
        look(); serve()
     :: share > has[t] && BUG == renewRaises -> used = used + (share - has[t]); has[t] = share
     :: else
     fi;
     all();
     assert(used <= smallest)                                         /* it takes nothing from others */
  :: else -> said = no
  fi
}

/* [release] */
inline doRelease(t) {
  look();
  if
  :: holds(t) ->
     drop(t, has[t] + (BUG == releaseFreesTwo -> 1 : 0));
     keep()
  :: else ->
     used = (BUG == expiredTwice && !isThere(t) && !queued(t) -> most(used, wants(client(t))) - wants(client(t)) : used);
     if
     :: queued(t) -> queue??eval(t); age[t] = 0
     :: else
     fi
  fi;
  serve();
  said = yes
}

/* [pass] */
inline doPass(t, p, again) {
  look();
  if
  :: !holds(t) -> serve(); said = no
  :: holds(t) && ((again) || moved[client(t)] && current(t)) && BUG != latePassServes -> extend(t); said = yes
  :: holds(t) && !(((again) || moved[client(t)] && current(t)) && BUG != latePassServes) && len(queue) > 0 ->
     drop(t, has[t]); keep(); serve(); said = handed
  :: else ->
     extend(t);
     said = yes;
     moved[client(t)] = (phase[client(t)] == passing && current(t) -> true : moved[client(t)])
  fi
}

/* ------------------------------------------------------------------ what protocol.pml asks for */

inline tellState() {
  printf("        says %e; %d in use, %d queued\n", said, used, len(queue))
}

inline expire() {
  n = 1;
  do
  :: n <= TOKENS ->
     if
     :: left[n] == 1 -> over(n); left[n] = 0
     :: else -> left[n] = most(left[n], 1) - 1
     fi;
     n++
  :: else -> break
  od;
  keep()
}

inline goBack() { skip }

/* Nobody's limit is exceeded while it holds. */
inline exclude() {
  smallest = 255;
  do
  :: i < N ->
     if
     :: (i == c && proof > 0) || (i != c && valid[i] > 0) ->
        total = total + believed(i);
        smallest = least(smallest, limitOf(i))
     :: else
     fi;
     i++
  :: else -> break
  od;
  i = 0;
  assert(total <= smallest);
  total = 0; smallest = 0
}

inline shareOf(c0) { share = (less[c0] -> 1 : wants(c0)) }
inline with(isBrief) { ttl = ttlOf(isBrief); shareOf(c) }
inline withCopy() { ttl = ttlOf(lateBrief); share = (lateLess -> 1 : wants(client(lateToken))) }
inline copyShare() { lateLess = less[c] }
inline dropCopy() { late = nothing; lateToken = 0; latePlace = 0; lateBrief = false; lateLess = false }
inline wholeShare() { less[c] = false }
inline done() { first = 0; served = 0; ttl = 0; said = silence; share = 0; smallest = 0 }

/* Whoever is the first that is alive, and has asked in this tick, is let in where there is room. */
#ifdef TIMELY
inline onIdle() {
  smallest = 255; n = 1;
  do
  :: n <= TOKENS ->
     if
     :: holds(n) -> total = total + has[n]; smallest = least(smallest, limitOf(client(n)))
     :: else
     fi;
     n++
  :: else -> break
  od;
  first = 0; n = len(queue);
  do
  :: n > 0 ->
     queue?ahead; queue!ahead;
     first = (first == 0 && live(ahead) -> ahead : first);
     n--
  :: else -> break
  od;
  assert(first == 0 || !current(first) || paused[client(first)] || phase[client(first)] != waiting ||
    total + wants(client(first)) > least(smallest, limitOf(client(first))));
  first = 0; ahead = 0; total = 0; smallest = 0; n = 0
}
#else
inline onIdle() { skip }
#endif
