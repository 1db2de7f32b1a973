# Runs the job beside this file, or that in FOLDER: `sh run.sh [FOLDER]` in the phone's shell. It leaves RUN_ID.run.json
# in results/.
cd -- "${1:-$(dirname "$0")}" || exit 3
chmod 755 bin/*
core= fastest= slowest=
for file in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq; do
  khz=$(cat "$file" 2>/dev/null) || continue
  number=${file#/sys/devices/system/cpu/cpu}
  number=${number%%/*}
  [ "$khz" -ge "${slowest:-$khz}" ] || slowest=$khz
  slowest=${slowest:-$khz}
  if [ "$khz" -gt "${fastest:-0}" ] || { [ "$khz" -eq "$fastest" ] && [ "$number" -gt "$core" ]; }; then
    fastest=$khz core=$number
  fi
done
pin=
[ "${fastest:-0}" -le "${slowest:-0}" ] || pin="--pin 1=$core"
@KEEP_AWAKE@
@COMMAND@ $pin 2>&1 >/dev/null
code=$?
mkdir -p results && cp job/*.run.json results/ 2>/dev/null
@LET_SLEEP@
echo "mobileclip-shell-ended $code"
exit $code
