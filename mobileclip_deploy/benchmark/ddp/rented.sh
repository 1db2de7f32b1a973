#!/system/bin/sh
# Runs on a rented phone as the session's executable: `rented.sh FOLDER`. The service keeps no output, so that all of it
# goes to FOLDER/results, which is pulled: what the phone is, what its programs printed, and the run.
cd "$1" || exit 3
mkdir -p results
getprop | grep -E '^\[ro\.(product\.(model|manufacturer|device|cpu\.abi)|soc\.(model|manufacturer)|board\.platform|build\.(version\.(release|sdk)|fingerprint)|hardware|kernel\.qemu|boot\.qemu|mobileclip\.simulated)\]' >results/properties.txt
{
  @FACTS@
} >results/facts.txt
waited=0
while dumpsys thermalservice 2>/dev/null | grep -q 'Thermal Status: [1-9]' && [ "$waited" -lt @COOLING@ ]; do
  sleep 10
  waited=$((waited + 10))
done
sh ./run.sh . >results/log.txt 2>&1
code=$?
exit $code
