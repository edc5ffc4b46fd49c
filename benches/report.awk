# One table of all figures, as markdown that is text as well, and a chart: awk -f report.awk -v md=FILE -v svg=FILE GOALS RESULTS
# HEAD in the environment: lines for the top. A result line is question, case, median, minimum. The baselines are measured twice,
# the second time as "bare again"; a ratio to one of them is to the mean of both.

function trim(text) { gsub(/^ +| +$/, "", text); return text }
function escaped(text) { gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/>/, "\\&gt;", text); return text }
function figure(value) { return value == "" ? "" : sprintf(value < 1000 ? "%.2f" : "%.0f", value) }
function unit(question) { return question ~ /bytes$/ ? "bytes" : question ~ /ms$/ ? "ms" : "ns" }
# A figure of one case, for ratios.
function settled(i) { return (key[i] in again) ? (median[i] + again[key[i]]) / 2 : median[i] }

FNR == NR {
  if ($0 ~ /^#/ || NF == 0) next
  count = split($0, part, / ?\| ?/)
  goals++
  goal_question[goals] = trim(part[1]); goal_case[goals] = part[2]; goal_number[goals] = part[3]
  # A pattern may have bars of its own.
  base = part[4]; for (i = 5; i <= count; i++) base = base "|" part[i]
  sub(/^ /, "", base); goal_base[goals] = base
  next
}

{
  split($0, part, "\t")
  if (part[1] == "bare again") { again["bare: " part[2]] = part[3]; next }
  if (!(part[1] in asked_about)) { asked_about[part[1]]; order[++questions] = part[1] }
  lines++
  all[lines] = $0
}

# All of a question together, other actors with the library.
function sort_by_question(    q, l) {
  for (q = 1; q <= questions; q++) for (l = 1; l <= lines; l++) {
    split(all[l], part, "\t")
    if (part[1] != order[q]) continue
    n++
    question[n] = part[1]; name[n] = part[2]; median[n] = part[3] + 0; minimum[n] = part[4] + 0
    key[n] = part[1] ": " part[2]
  }
}

function best(pattern,    i, found) {
  found = 0; best_name = ""
  for (i = 1; i <= n; i++) if (key[i] ~ pattern && (!found || settled(i) < found)) { found = settled(i); best_name = key[i] }
  return found
}

function put(line) { print line > md }

function row(figure_, median_, minimum_, goal_, ratio_, mark_) {
  put(sprintf("| %-84s | %9s | %9s | %-60s | %5s | %-3s |", figure_, median_, minimum_, goal_, ratio_, mark_))
}

# High quantiles without a goal share a row.
function kept() {
  if (kept_names != "") row(kept_of kept_names, "", "", kept_values, "", "")
  kept_names = kept_values = kept_of = ""
}

function keep(i,    of, which) {
  of = which = key[i]
  sub(/ p[0-9.]+$| max$/, "", of); which = substr(key[i], length(of) + 1)
  if (of != kept_of) kept()
  kept_of = of
  kept_names = kept_names (kept_names == "" ? "" : ",") which
  kept_values = kept_values (kept_values == "" ? "" : ", ") sprintf("%.0f", median[i])
}

function rows(    i, g, first, base, limit, text, mark, ratio) {
  row("figure", "median", "minimum", "goal", "/ goal", "reached")
  put("|---|---:|---:|---|---:|---|")
  for (i = 1; i <= n; i++) {
    first = 1
    text = (key[i] in again) ? "again at the end: " figure(again[key[i]]) : ""
    for (g = 1; g <= goals; g++) {
      if (goal_question[g] != question[i] || name[i] !~ goal_case[g] || name[i] ~ /^(bare|actor): /) continue
      limit = goal_number[g]; mark = "?"; ratio = ""
      if (goal_base[g] == "") { text = "<= " limit " " unit(question[i]) }
      else {
        base = best(goal_base[g])
        text = "<= " limit " x "
        if (base) { limit *= base; text = text figure(base) " (" best_name ") = " figure(limit) }
        else { limit = 0; text = text (goal_base[g] ~ /actor/ ? "the best actor framework" : "its baseline") ", not measured" }
      }
      if (limit) {
        ratio = sprintf("%.2f", median[i] / limit); mark = median[i] <= limit + 0 ? "yes" : "no"
        if (!(i in tick) || limit < tick[i]) tick[i] = limit
        asked++; if (mark == "yes") reached++
      }
      kept()
      if (first) row(key[i], figure(median[i]), figure(minimum[i]), text, ratio, mark)
      else row("", "", "", text, ratio, mark)
      first = 0
    }
    if (!first) continue
    if (name[i] ~ / (p99\.?9*|max)$/) { keep(i); continue }
    kept()
    row(key[i], figure(median[i]), figure(minimum[i]), text, "", "")
  }
  kept()
  put("")
  put(reached + 0 " of " asked + 0 " goals reached.")
}

function x(value) { return left + (log(value) / log(10) - low) * wide }

function chart(    i, y, last, colour, high, decade, lines, shown, text) {
  left = 470; wide = 110; low = 0; high = 1; shown = 0; lines = 0; last = ""
  for (i = 1; i <= n; i++) {
    if (name[i] ~ / (p99\.9|p99\.99|max)$/ || unit(question[i]) == "ms" || median[i] <= 0) continue
    chosen[++shown] = i
    if (question[i] != last) { lines += 2; last = question[i] }
    lines++
    while (median[i] > exp(log(10) * high)) high++
  }
  text = "http://www.w3.org/2000/svg"
  printf "<svg xmlns=\"%s\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", text, left + wide * (high - low) + 90, lines * 16 + 110 > svg
  print "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>" > svg
  print "<text x=\"16\" y=\"26\" font-size=\"18\" font-weight=\"bold\">libringkernel: medians, logarithmic</text>" > svg
  print "<text x=\"16\" y=\"46\" fill=\"#555555\">" escaped(machine) "</text>" > svg
  printf "<g><rect x=\"16\" y=\"56\" width=\"10\" height=\"10\" fill=\"#2b6cb0\"/><text x=\"30\" y=\"66\">the library</text>" > svg
  printf "<rect x=\"116\" y=\"56\" width=\"10\" height=\"10\" fill=\"#a0a0a0\"/><text x=\"130\" y=\"66\">the machine, bare rings</text>" > svg
  printf "<rect x=\"286\" y=\"56\" width=\"10\" height=\"10\" fill=\"#dd8833\"/><text x=\"300\" y=\"66\">other actors</text>" > svg
  print "<rect x=\"393\" y=\"55\" width=\"2\" height=\"12\" fill=\"#c00000\"/><text x=\"400\" y=\"66\">goal</text></g>" > svg
  for (decade = low; decade <= high; decade++) {
    printf "<line x1=\"%.1f\" y1=\"80\" x2=\"%.1f\" y2=\"%d\" stroke=\"#dddddd\"/>", left + (decade - low) * wide, left + (decade - low) * wide, lines * 16 + 96 > svg
    printf "<text x=\"%.1f\" y=\"76\" text-anchor=\"middle\" fill=\"#555555\">%s</text>\n", left + (decade - low) * wide, sprintf("%d", exp(log(10) * decade) + 0.5) > svg
  }
  y = 84; last = ""
  for (shown = 1; shown in chosen; shown++) {
    i = chosen[shown]
    if (question[i] != last) {
      y += 32; last = question[i]
      text = question[i] ~ /bytes$/ ? ", each" : ", ns each"
      print "<text x=\"16\" y=\"" (y - 4) "\" font-weight=\"bold\">" escaped(question[i] text) "</text>" > svg
    }
    colour = name[i] ~ /actor: / ? "#dd8833" : question[i] == "bare" || name[i] ~ /(^|, )bare: |, a bare ring$/ ? "#a0a0a0" : "#2b6cb0"
    printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", left - 6, y + 10, escaped(name[i]) > svg
    printf "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"12\" fill=\"%s\"/>", left, y, (median[i] > 1 ? x(median[i]) - left : 1), colour > svg
    printf "<text x=\"%.1f\" y=\"%d\">%s</text>", (median[i] > 1 ? x(median[i]) : left) + 6, y + 10, figure(median[i]) > svg
    if (i in tick) printf "<rect x=\"%.1f\" y=\"%d\" width=\"2\" height=\"14\" fill=\"#c00000\"/>", (tick[i] > 1 ? x(tick[i]) : left), y - 1 > svg
    print "" > svg
    y += 16
  }
  print "</svg>" > svg
}

END {
  sort_by_question()
  head = ENVIRON["HEAD"]
  count = split(head, line, "\n")
  machine = line[1]
  for (i = 1; i <= count; i++) if (line[i] != "") { put(line[i]); put("") }
  for (i = 1; i <= n; i++) {
    if (key[i] != "bare: a cache line there and back" || !(key[i] in again)) continue
    moved = again[key[i]] / median[i]; if (moved < 1) moved = 1 / moved
    if (moved > 1.5) { put(sprintf("**The machine changed meanwhile: a cache line there and back took %s ns before calls and %s ns after. Do not trust figures beside it.**", figure(median[i]), figure(again[key[i]]))); put("") }
    else { put(sprintf("A cache line there and back took %s ns before calls and %s ns after.", figure(median[i]), figure(again[key[i]]))); put("") }
  }
  rows()
  chart()
}
