#!/bin/sh
# Draws where the threads of a running node spend their time: a flame graph as one file of SVG, by perf and awk alone.
# The width of a box is its share of samples; hover over it for its name. Needs the right to profile (root, or
# kernel.perf_event_paranoid at most 1), and `perf`.
#
#   flamegraph.sh PID [SECONDS [FILE]]      default: 10 seconds, ashlar-flame.svg
set -eu

pid=${1:-}
seconds=${2:-10}
out=${3:-ashlar-flame.svg}
# Either of them empty, or no number.
case ":$pid:$seconds:" in
*::* | *[!0-9:]*)
    echo "usage: $0 PID [SECONDS [FILE]]" >&2
    exit 2
    ;;
esac
if [ ! -d "/proc/$pid" ]; then
    echo "$0: there is no process $pid" >&2
    exit 1
fi
command -v perf >/dev/null || {
    echo "$0: perf is not here; install it (apt install linux-perf)" >&2
    exit 1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# The release build has no frame pointers, so that stacks are copied and unwound by its debug lines.
perf record --quiet --freq 199 --call-graph dwarf,16384 --pid "$pid" --output "$scratch/perf.data" -- sleep "$seconds"
perf script --input "$scratch/perf.data" --fields comm,ip,sym 2>/dev/null >"$scratch/samples"

# Folded: outermost frame first, with semicolons, then how often.
awk '
    /^[^ \t]/ { stack = ""; thread = $1; next }
    /^[ \t]+[0-9a-f]+/ {
        name = $0
        sub(/^[ \t]+[0-9a-f]+[ \t]*/, "", name)
        sub(/\+0x[0-9a-f]+.*$/, "", name)
        sub(/::h[0-9a-f]+$/, "", name)
        gsub(/;/, ":", name)
        stack = (name == "" ? "[unknown]" : name) (stack == "" ? "" : ";" stack)
        next
    }
    /^$/ { if (stack != "") count[thread ";" stack]++; stack = "" }
    END { if (stack != "") count[thread ";" stack]++; for (s in count) print s "\t" count[s] }
' "$scratch/samples" | LC_ALL=C sort >"$scratch/folded"
if [ ! -s "$scratch/folded" ]; then
    echo "$0: no samples: process $pid did nothing for $seconds seconds" >&2
    exit 1
fi

awk -F '\t' -v title="process $pid, $seconds s" '
    function escaped(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); gsub(/>/, "\\&gt;", s); return s }
    function box(depth,    x, w, y, short, percent) {
        w = (at - from[depth]) / total * width
        if (w < 0.3) return
        x = from[depth] / total * width
        y = height - (depth + 1) * 17
        percent = (at - from[depth]) * 100 / total
        printf "<g><title>%s: %d samples, %.2f %%</title>", escaped(open[depth]), at - from[depth], percent
        printf "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"16\" fill=\"hsl(%d,75%%,68%%)\"/>", \
            x, y, w, 15 + (length(open[depth]) * 7) % 40
        short = substr(open[depth], 1, int(w / 7))
        if (w > 25) printf "<text x=\"%.1f\" y=\"%d\">%s</text>", x + 2, y + 12, escaped(short)
        print "</g>"
    }
    { folded[NR] = $1; samples[NR] = $2; total += $2; n = split($1, f, ";"); if (n > deepest) deepest = n }
    END {
        width = 1200; height = (deepest + 3) * 17; depth = 0
        printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" ", width, height
        print "font-family=\"monospace\" font-size=\"11\">"
        printf "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>"
        printf "<text x=\"4\" y=\"14\">%s, %d samples</text>\n", escaped(title), total
        for (i = 1; i <= NR; i++) {
            n = split(folded[i], f, ";")
            same = 0
            while (same < depth && same < n && open[same] == f[same + 1]) same++
            while (depth > same) box(--depth)
            for (; depth < n; depth++) { open[depth] = f[depth + 1]; from[depth] = at }
            at += samples[i]
        }
        while (depth > 0) box(--depth)
        print "</svg>"
    }
' "$scratch/folded" >"$out"
echo "$out"
