/**
 * What Node.js cannot do by itself, in the words of a POSIX shell: a process group that has the
 * terminal, and an end of that group also where the command line's own process is killed. Descriptor 3
 * is what the command line says, descriptor 4 what it is told.
 */

/**
 * Says its process id, which is that of its group, waits for "go", and becomes the command. If the
 * command line ends before that, nothing is started.
 *
 * (A variable that the environment has as well would be changed for the command: so their names are long.)
 */
export const starter = `echo "$$" >&4
read -r __effect_redis_lock_said <&3 && [ "$__effect_redis_lock_said" = go ] || exit 125
exec 3>&- 4>&-
exec "$@"`

/**
 * Becomes a shell with job control that reads its script (`terminal`) from descriptor 6, and leaves the
 * command's input there. Such a one is ended by ^C at once, whatever it does. One that has its script as an
 * argument catches SIGINT, and forgets it if it comes while a process is being started, which then has not
 * got it either.
 */
export const jobControl = `exec /bin/sh -m -s -- "$@" 7<&0 <&6 6<&7 7<&-`

/**
 * Runs the starter (its first argument) as a job in the foreground: a job-control shell (\`sh -m\`) gives
 * the job a group of its own, and the terminal, and takes the terminal back when the job stops or ends.
 * Then it says which (\`jobs\`, and the status), and is told what to do: "fg", "wait" (for
 * its end, which is there or comes soon), or to exit. Descriptors 5 and 6 are the command's standard error
 * and input; the shell's own standard error is the terminal, by which some shells find it.
 *
 * (What `jobs` says is read: so it is said in English. A job that is stopped ends a loop of bash, and makes of
 * the first `exit` a warning. It is one command, so that it is read as a whole.)
 *
 * What a program that was killed has left of the terminal's modes is set right, as a shell at its
 * prompt does.
 */
export const terminal = `{
exec 2>/dev/null
__effect_redis_lock_modes=$(stty -g </dev/tty)
__effect_redis_lock_starter=$1
shift
sh -c "$__effect_redis_lock_starter" effect-redis-lock "$@" <&6 6<&- 2>&5 5>&-
__effect_redis_lock_status=$?
ask() {
  LC_ALL=C jobs >&4
  echo "status $__effect_redis_lock_status" >&4
  read -r __effect_redis_lock_said <&3 || return
  case $__effect_redis_lock_said in
    fg) fg >/dev/null; __effect_redis_lock_status=$?; ask ;;
    wait) bg >/dev/null; wait %1; __effect_redis_lock_status=$?; ask ;;
  esac
}
ask
[ "$__effect_redis_lock_status" -gt 128 ] && stty "$__effect_redis_lock_modes" </dev/tty
exit "$__effect_redis_lock_status"
exit "$__effect_redis_lock_status"
}
`

/**
 * Ends a group where nobody else does. It reads the group and the grace, then for how many seconds the
 * lock is proven, again and again; each line begins a new countdown, at the end of which the group is
 * killed. If the lines end without "done", because the process that writes them was killed, the group
 * is told to end, and killed after the grace.
 *
 * It is in a session of its own, and deaf to what is sent to all processes of a service.
 */
export const watchdog = `trap '' HUP INT QUIT TERM
read -r group grace || exit 0
countdown=
while read -r seconds; do
  [ -z "$countdown" ] || kill -s USR1 "$countdown" 2>/dev/null
  [ "$seconds" = done ] && exit 0
  {
    trap 'kill -s KILL "$sleep"; exit 0' USR1
    sleep "$seconds" & sleep=$!
    wait "$sleep" && kill -s KILL -- "-$group"
  } 2>/dev/null &
  countdown=$!
done
kill -s TERM -- "-$group" && kill -s CONT -- "-$group"
sleep "$grace"
kill -s KILL -- "-$group"
kill -s USR1 "$countdown"`
