#!/bin/sh
# The header takes no names but its own: tests/c/names.sh INCLUDEDIR
# Every macro it defines begins with RK_, everything else with rk_ or RK_; a program may call its own things
# Active or Failed. In C99 and in C++11.
set -eu

include=$1
failed=0

# all LANGUAGE STANDARD: the names outside parentheses and struct bodies that are no words of the language.
names() {
  echo '#include <ringkernel.h>' | gcc -x "$1" "-std=$2" -I "$include" -E - | awk '
    /^# [0-9]+ / { ours = index($3, "ringkernel.h") > 0; next }
    ours {
      line = $0
      gsub(/"[^"]*"/, "", line)
      while (match(line, /[A-Za-z_][A-Za-z0-9_]*|[0-9][0-9a-zA-Z]*|[^ \t]/)) {
        token = substr(line, RSTART, RLENGTH)
        line = substr(line, RSTART + RLENGTH)
        if (token == "(") parens++
        else if (token == ")") parens--
        else if (token == "{") { depth++; if (body) { inside = depth; body = 0 } }
        else if (token == "}") { if (depth == inside) inside = 0; depth-- }
        else if (token == ";") body = 0
        else if (token == "struct" || token == "union") body = 1
        else if (token ~ /^[A-Za-z_]/ && parens == 0 && !inside) print token
      }
    }' | sort -u | grep -vxE 'typedef|enum|const|void|char|int|bool|_Bool|extern|u?int(8|16|32|64)_t|size_t' || true
}

# macros LANGUAGE STANDARD: what is defined after the header and not after what it includes.
macros() {
  dir=$(mktemp -d)
  printf '#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n' > "$dir/without"
  cp "$dir/without" "$dir/with"
  echo '#include <ringkernel.h>' >> "$dir/with"
  for which in without with; do
    gcc -x "$1" "-std=$2" -I "$include" -E -dM - < "$dir/$which" | awk '{ sub(/\(.*/, "", $2); print $2 }' \
      | sort -u > "$dir/$which.macros"
  done
  comm -13 "$dir/without.macros" "$dir/with.macros"
  rm -r "$dir"
}

for language in "c c99" "c++ c++11"; do
  # shellcheck disable=SC2086  # two words
  set -- $language
  count=$(names "$1" "$2" | wc -l)
  foreign=$({ names "$1" "$2"; macros "$1" "$2" | sed 's/$/ (macro)/'; } | grep -vE '^(rk_|RK_|RINGKERNEL_H )' || true)
  if [ "$count" -lt 80 ]; then
    echo "$2: only $count names were found; there are at least 80"
    failed=1
  fi
  if [ -n "$foreign" ]; then
    echo "$2: names that are not the header's to take:"
    echo "$foreign"
    failed=1
  fi
done
[ "$failed" -eq 0 ] && echo "ok the_header_takes_no_names_but_its_own"
exit "$failed"
