# Sourced by the scripts in this folder. `need NAME...` ends a script that cannot run here, in one sentence: a name is a program,
# or in capitals a variable of the environment. For macOS's bash, too, which is 3.2.
need() {
	local name
	for name in "$@"; do
		if [[ $name == [A-Z]* ]]; then [[ -z ${!name-} ]] || continue; else ! command -v "$name" >/dev/null || continue; fi
		echo "${0##*/} needs $name: $(way_to_get "$name")" >&2
		exit 1
	done
}

way_to_get() {
	case $1 in
	adb) echo "install Android's platform-tools (Debian: apt-get install adb)" ;;
	ANDROID_HOME) echo "set it to an Android SDK with a platform and build tools" ;;
	ANDROID_NDK_LATEST_HOME) echo "set it to an Android NDK, r26 or newer" ;;
	cmake) echo "apt-get install cmake ninja-build nlohmann-json3-dev" ;;
	javac) echo "install a JDK (Debian: default-jdk-headless)" ;;
	mobileclip-deploy) echo "install this checkout, as docs/ci.md says, and put its environment on PATH" ;;
	node | npm) echo "install Node 20 or newer with npm" ;;
	python) echo "activate an environment of Python 3.11 or newer" ;;
	swift) echo "install Swift 6, or Xcode 16" ;;
	xcodebuild | xcrun) echo "take a Mac with Xcode 16 or newer" ;;
	zensical) echo "pip install -r .github/requirements/release.txt" ;;
	*) echo "install it" ;;
	esac
}
