/*
 * The quorum of protocol.md as a Promela model: three nodes, two clients. `npm run model`
 * (scripts/model.ts) checks every schedule of it, and plants mistakes that must be found.
 *
 * What is here: one key at each node, with its ttl and the last fencing token; the three commands
 * of a claim, each an atomic step at a node: acquire, confirm (which is also the renewal), release.
 * Commands and answers take any time: a command can come to its node long after whoever sent it has
 * gone on with another token. A client can give up at any point; CRASHES times one stops for ever
 * instead, and EMPTY times a node comes back empty, at any moment.
 *
 * What is checked: whoever enters is alone, as long as the proof of the others lasts; its fencing
 * token is greater than that of all who entered before; and a client that has gone, without having
 * stopped, leaves nothing at a node once its commands have been answered.
 *
 * What is left out, and why that is sound:
 *
 * - An answer is read in the step in which its command comes to the node: a client that has read it, and
 *   has not gone on yet, is one that has not read it. Whatever takes time stands before or behind that.
 * - Time is in ticks, a ttl is TTL of them, and all clocks have the same rate: the drift is for the
 *   difference. The longest ttl is the ttl. A node counts again that long after it came back; there it
 *   is later: from the first command that finds it empty.
 * - A fencing token is the last one of the node and one more. Servers' clocks make them greater, which
 *   changes no order at a node that has not lost its record. One that came back empty has its clock
 *   alone: CLOCKS=1 says that it is not behind any number that was there before. Without that
 *   condition the order does not hold: it is one of the mistakes.
 * - What was granted before is in the records of nodes, which begin with different numbers.
 * - Who waits, and in what order: a claim that is not granted is asked again with another token.
 *   Queues decide who asks, and not who is granted.
 * - Nodes that the lease does not have yet and is renewed to: an acquire and a confirmation, as here,
 *   which count for its proof once they are answered.
 * - A command that is applied twice: an acquire with the same token finds it in place; confirm and
 *   release check the token.
 */

#ifndef TTL
#define TTL 2
#endif
/* tokens of client 0 and of client 1: one after the other */
#ifndef FIRST
#define FIRST 1
#endif
#ifndef ALL
#define ALL 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef EMPTY
#define EMPTY 1
#endif
#ifndef CLOCKS
#define CLOCKS 1
#endif
#ifndef RENEW
#define RENEW 1
#endif
#define N 3

#define noWriteBack 1
#define noMarker 2
#define minority 3
#define lateStays 4
#ifndef BUG
#define BUG 0
#endif

#define MAJORITY (BUG == minority -> 1 : 2)

/* a claim */
#define IDLE 0
#define ASKING 1
#define CONFIRMING 2
#define HELD 3
#define OVER 4

/* what is under way between a claim and a node */
#define NONE 0
#define ACQUIRE 1
#define CONFIRM 2
#define RELEASE 3

/* nodes */
byte owner[N]		/* a token and one; 0: free */
byte left[N]		/* of its ttl */
byte out[N]		/* how long it does not count */
byte last[N]		/* fencing token */

/* claims: of each token */
byte phase[ALL]
byte proof[ALL]		/* of the lease, once it is held */
byte asked[ALL]		/* the same, of the confirmation that is under way */
byte fence[ALL]
bool crashed[ALL]
bool renewed[ALL]
byte under[3 * ALL]		/* of token and node: 3 * token + node */
byte has[3 * ALL]		/* 1: granted, 2: confirmed */
byte number[3 * ALL]
bool undo[3 * ALL]

byte greatest		/* fencing token of those who entered */
byte crashes = CRASHES
byte empties = EMPTY

#define at(t, n) (3 * (t) + (n))
#define count(t) ((has[at(t,0)] > 0) + (has[at(t,1)] > 0) + (has[at(t,2)] > 0))
#define confirmations(t) ((has[at(t,0)] == 2) + (has[at(t,1)] == 2) + (has[at(t,2)] == 2))
#define quiet(t) (under[at(t,0)] == NONE && under[at(t,1)] == NONE && under[at(t,2)] == NONE)
#define begins(t) (phase[t] == IDLE && (t == 0 || t == FIRST || phase[t - 1] == OVER))
#define max(a, b) ((a) > (b) -> (a) : (b))
#define leftBehind(t) (phase[t] == OVER && !crashed[t] && quiet(t) && \
	(owner[0] == t + 1 || owner[1] == t + 1 || owner[2] == t + 1))

#if ALL > 2
#define anyToken(t) if :: t = 0 :: t = 1 :: t = 2 fi
#else
#define anyToken(t) if :: t = 0 :: t = 1 fi
#endif

/* ------------------------------------------------------------------ at a node */

/* A command comes to its node, and its answer to the client. */
inline deliver(t, n) {
	if
	:: under[at(t,n)] == ACQUIRE ->
		under[at(t,n)] = NONE;
		if
		:: owner[n] == 0 ->
			owner[n] = t + 1; left[n] = TTL; last[n] = last[n] + 1;
			if
			:: phase[t] != OVER -> has[at(t,n)] = 1; number[at(t,n)] = last[n]
			:: phase[t] == OVER && undo[at(t,n)] && BUG != lateStays -> under[at(t,n)] = RELEASE
			:: else -> skip
			fi
		:: else -> skip
		fi
	:: under[at(t,n)] == CONFIRM ->
		under[at(t,n)] = NONE;
		if
		:: owner[n] == t + 1 && out[n] == 0 ->
			left[n] = TTL;
			if
			:: BUG == noWriteBack -> skip
			:: else -> last[n] = max(last[n], fence[t])
			fi;
			has[at(t,n)] = (phase[t] == OVER -> 0 : 2)
		:: else ->
			/* it does not count: what it has granted is given back */
			has[at(t,n)] = 0;
			if
			:: owner[n] == t + 1 && !crashed[t] -> under[at(t,n)] = RELEASE
			:: else -> skip
			fi
		fi;
		if
		:: phase[t] == OVER && undo[at(t,n)] -> under[at(t,n)] = RELEASE
		:: else -> skip
		fi
	:: under[at(t,n)] == RELEASE ->
		under[at(t,n)] = NONE;
		if
		:: owner[n] == t + 1 -> owner[n] = 0; left[n] = 0
		:: else -> skip
		fi
	fi;
	if
	:: under[at(t,n)] != ACQUIRE && under[at(t,n)] != CONFIRM -> undo[at(t,n)] = false
	:: else -> skip
	fi
}

/* ------------------------------------------------------------------ at a client */

inline askOne(t, n) {
	if
	:: has[at(t,n)] > 0 && under[at(t,n)] == NONE -> has[at(t,n)] = 1; under[at(t,n)] = CONFIRM
	:: else -> skip
	fi
}

/* The greatest number of the nodes that count is written back to them. */
inline confirmAll(t) {
	asked[t] = TTL;
	askOne(t, 0); askOne(t, 1); askOne(t, 2)
}

inline choose(t) {
	fence[t] = max((has[at(t,0)] > 0 -> number[at(t,0)] : 0),
		max((has[at(t,1)] > 0 -> number[at(t,1)] : 0), (has[at(t,2)] > 0 -> number[at(t,2)] : 0)))
}

inline giveBack(t, n) {
	if
	:: under[at(t,n)] != NONE -> undo[at(t,n)] = true
	:: under[at(t,n)] == NONE && has[at(t,n)] > 0 -> under[at(t,n)] = RELEASE
	:: else -> skip
	fi;
	has[at(t,n)] = 0
}

inline forget(t) {
	asked[t] = 0; proof[t] = 0; renewed[t] = false;
	number[at(t,0)] = 0; number[at(t,1)] = 0; number[at(t,2)] = 0
}

inline tickNode(n) {
	if
	:: left[n] > 0 ->
		left[n] = left[n] - 1;
		if
		:: left[n] == 0 -> owner[n] = 0
		:: else -> skip
		fi
	:: else -> skip
	fi;
	out[n] = (out[n] > 0 -> out[n] - 1 : 0)
}

inline emptied(n) {
	owner[n] = 0; left[n] = 0; empties = empties - 1;
	out[n] = (BUG == noMarker -> 0 : TTL);
	last[n] = (CLOCKS -> max(max(last[0], last[1]), max(last[2], greatest)) : 0)
}

active proctype world() {
	byte t; byte n; byte other;
	/* what was granted before */
	last[0] = 1;
	do
	:: atomic {
		/* any claim, any node */
		anyToken(t);
		if
		:: begins(t) ->
			phase[t] = ASKING;
			under[at(t,0)] = ACQUIRE; under[at(t,1)] = ACQUIRE; under[at(t,2)] = ACQUIRE
		:: phase[t] == ASKING && count(t) >= MAJORITY ->
			phase[t] = CONFIRMING; choose(t); confirmAll(t)
		:: phase[t] == CONFIRMING && confirmations(t) >= MAJORITY && asked[t] > 0 ->
			phase[t] = HELD; proof[t] = asked[t];
			other = 0;
			do
			:: other < ALL -> assert(other == t || phase[other] != HELD || proof[other] == 0); other++
			:: else -> break
			od;
			assert(fence[t] > greatest);
			greatest = fence[t]; other = 0
		:: RENEW && phase[t] == HELD && !renewed[t] && quiet(t) && proof[t] > 0 ->
			renewed[t] = true; confirmAll(t)
		:: phase[t] == HELD && confirmations(t) >= MAJORITY && asked[t] > proof[t] && proof[t] > 0 ->
			proof[t] = asked[t]
		:: phase[t] != IDLE && phase[t] != OVER ->
			phase[t] = OVER; forget(t);
			giveBack(t, 0); giveBack(t, 1); giveBack(t, 2)
		:: phase[t] != IDLE && phase[t] != OVER && crashes > 0 ->
			phase[t] = OVER; crashed[t] = true; crashes = crashes - 1; forget(t);
			has[at(t,0)] = 0; has[at(t,1)] = 0; has[at(t,2)] = 0
		:: leftBehind(t) -> assert(false)
		:: else -> skip
		fi;
		t = 0
	   }
	:: atomic {
		anyToken(t);
		if :: n = 0 :: n = 1 :: n = 2 fi;
		if
		:: under[at(t,n)] != NONE -> deliver(t, n)
		:: empties > 0 -> emptied(n)
		:: else -> skip
		fi;
		t = 0; n = 0
	   }
	:: atomic {
		/* time passes */
		tickNode(0); tickNode(1); tickNode(2);
		asked[0] = (asked[0] > 0 -> asked[0] - 1 : 0);
		asked[1] = (asked[1] > 0 -> asked[1] - 1 : 0);
		proof[0] = (proof[0] > 0 -> proof[0] - 1 : 0);
		proof[1] = (proof[1] > 0 -> proof[1] - 1 : 0);
#if ALL > 2
		asked[2] = (asked[2] > 0 -> asked[2] - 1 : 0);
		proof[2] = (proof[2] > 0 -> proof[2] - 1 : 0);
#endif
		skip
	   }
	od
}
