#!/bin/sh
# Show pip's long output as one line that moves. Usage: pip install ... | progress.sh EXPECTED_PACKAGES
# Where nobody watches (no terminal), every tenth package is a line.
expected=$1
awk -v expected="$expected" -v terminal="$([ -t 1 ] && echo 1)" '
  /^(Collecting|Requirement already satisfied)/ {
    count++
    name = $2; if ($1 == "Requirement") name = $4
    sub(/[=<>;].*/, "", name)
    if (terminal) printf "\r  %d of about %d  %-40s", count, expected, name
    else if (count % 25 == 0) printf "  %d of about %d packages\n", count, expected
  }
  /^Installing collected packages/ { if (terminal) printf "\r  unpacking %-60s", ""; else print "  unpacking" }
  END { if (terminal) printf "\r%-75s\r", ""; print "  done" }
  { fflush() }
'
