#!/usr/bin/env bash
# Installs what the embedded engines, the playground, (with --browser) the browser tests and (with --peers) bench/peers need and this machine lacks.
# When nothing is missing it only looks. What comes from apt needs root, or sudo; the rest goes below .netra and web.
#
#   scripts/setup.sh [--browser] [--peers]  everything
#   scripts/setup.sh [--browser] --system   only what needs root
set -euo pipefail
cd "$(dirname "$0")/.."

readonly minimum=15 # PostgreSQL's major version; the engine checks it too

browser=no
peers=no
system_only=no
for argument in "$@"; do
	case $argument in
	--browser) browser=yes ;;
	--peers) peers=yes ;;
	--system) system_only=yes ;;
	*) echo "setup: unknown argument $argument" >&2 && exit 2 ;;
	esac
done

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Where Debian's packages read whether to make a server; see install_postgres.
readonly veto=/etc/postgresql-common/createcluster.d/netra-setup.conf

clean_up() {
	[[ -z ${work:-} ]] || rm -rf "$work" "$veto"
	[[ -z ${build:-} ]] || kill "$build" 2>/dev/null || true
}
trap clean_up EXIT

# The order in which the engine looks for PostgreSQL.
postgres_candidates() {
	local found
	if [[ -n ${NETRA_PG_BIN:-} ]]; then
		echo "$NETRA_PG_BIN"
		return
	fi
	if found=$(command -v postgres); then
		dirname "$(readlink -f "$found")"
	fi
	ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort --version-sort --reverse
}

postgres_major() { "$1/postgres" --version 2>/dev/null | sed -n 's/.*(PostgreSQL) \([0-9]*\).*/\1/p'; }

find_postgres() {
	local candidate major
	while read -r candidate; do
		major=$(postgres_major "$candidate") || continue
		if [[ -n $major && $major -ge $minimum ]]; then
			echo "$candidate"
			return
		fi
	done < <(postgres_candidates)
}

postgres_has() { # bin, extension
	local share
	share=$("$1/pg_config" --sharedir 2>/dev/null) || share=/usr/share/postgresql/$(postgres_major "$1")
	[[ -f $share/extension/$2.control ]]
}

has_browser() { [[ -x ${CHROMIUM:-/usr/bin/chromium} ]]; }

# One line for each thing that only root can install.
missing() {
	local bin
	bin=$(find_postgres)
	if [[ -z $bin ]]; then
		echo "PostgreSQL $minimum or later with pgvector"
	else
		postgres_has "$bin" pg_stat_statements || echo "pg_stat_statements for PostgreSQL $(postgres_major "$bin")"
		postgres_has "$bin" vector || echo "pgvector for PostgreSQL $(postgres_major "$bin")"
	fi
	if [[ $browser = yes ]]; then
		has_browser || echo "chromium"
	fi
}

apt_updated=no
apt_update() {
	[[ $apt_updated = no ]] || return 0
	say "reading the lists of packages"
	apt-get -o DPkg::Lock::Timeout=300 --quiet=2 update || die "apt-get update failed: see above"
	apt_updated=yes
}

apt_knows() { [[ -n $(apt-cache --quiet=0 show --no-all-versions "$1" 2>/dev/null) ]]; }

apt_install() {
	local package
	for package in "$@"; do
		apt_knows "$package" || apt_update
	done
	say "installing $*"
	local install=(apt-get -o DPkg::Lock::Timeout=300 --quiet=2 --yes --no-install-recommends install "$@")
	# Lists that are out of date name packages that their server no longer has.
	DEBIAN_FRONTEND=noninteractive "${install[@]}" >"$log" 2>&1 || {
		apt_update
		DEBIAN_FRONTEND=noninteractive "${install[@]}" >"$log" 2>&1 || {
			tail -n 20 "$log" >&2
			die "apt-get install $* failed: see above"
		}
	}
}

# Debian makes and starts a server of its own with the programs. The engine needs the programs only.
install_postgres() {
	local major
	apt_knows postgresql || apt_update
	major=$(apt-cache depends postgresql | sed -n 's/^ *Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | sort -n | tail -n 1)
	[[ -n $major ]] || die "apt knows no PostgreSQL server: install PostgreSQL $minimum or later"
	[[ $major -ge $minimum ]] || die "this distribution has PostgreSQL $major, netra needs $minimum or later: install it from the PostgreSQL project's own packages"
	mkdir -p "${veto%/*}"
	echo 'create_main_cluster = false' >"$veto"
	apt_install "postgresql-$major" "postgresql-client-$major"
	rm -f "$veto"
}

install_pgvector() {
	local bin=$1 major
	major=$(postgres_major "$bin")
	[[ $bin = /usr/lib/postgresql/$major/bin ]] || die "PostgreSQL in $bin has no pgvector: install it there"
	apt_knows "postgresql-$major" || apt_update
	if apt_knows "postgresql-$major-pgvector"; then
		apt_install "postgresql-$major-pgvector"
	else
		build_pgvector "$bin" "$major"
	fi
}

# Debian 12 has no package of pgvector, but the release after it has the source, on the same mirrors. A private apt
# configuration, made from the machine's own, fetches and verifies it without a trace in the machine's lists.
build_pgvector() {
	local bin=$1 major=$2 next release entry list
	case $(. /etc/os-release && echo "${VERSION_CODENAME:-}") in
	bookworm) next=trixie ;;
	*) die "apt has no postgresql-$major-pgvector: install pgvector for PostgreSQL $major" ;;
	esac
	have gcc && have make || apt_install gcc make libc6-dev
	say "building pgvector for PostgreSQL $major from the source package of Debian $next"
	IFS='|' read -r release entry < <(apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(RELEASE)|$(SOURCESENTRY)' 'Created-By: Packages' |
		sed -n 's/^Debian|bookworm|\(.*\):[0-9]*$/\1/p' | head -n 1) || die "apt's sources do not name Debian bookworm: install pgvector for PostgreSQL $major"
	list=$work/next.${entry##*.}
	case $entry in
	*.sources)
		awk -v RS= -v release="$release" -v next_release="$next" '
			$0 ~ "(^|\n)Suites:[^\n]*[ \t]" release "([ \t\n]|$)" {
				gsub(/(^|\n)Types:[^\n]*/, "\nTypes: deb-src")
				gsub(/\nSuites:[^\n]*/, "\nSuites: " next_release)
				print $0 "\n"
			}' "$entry" >"$list"
		;;
	*)
		awk -v release=" $release " -v next_release=" $next " '
			/^[ \t]*deb[ \t]/ && index($0, release) {
				sub(/^[ \t]*deb[ \t]/, "deb-src ")
				sub(release, next_release)
				print
			}' "$entry" >"$list"
		;;
	esac
	mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work"/pgvector "$work"/headers
	local private=(-o Dir::Etc::sourcelist="$list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$work/lists"
		-o Dir::Cache="$work/cache" -o APT::Sandbox::User=root --quiet=2)
	(
		cd "$work"
		apt-get "${private[@]}" update
		apt-get "${private[@]}" source --download-only pgvector
		tar -xf pgvector_*.orig.tar.* -C pgvector --strip-components=1
		# Only the headers: the package depends on all of LLVM, which pgvector does not need.
		apt-get -o APT::Sandbox::User=root --quiet=2 download "postgresql-server-dev-$major"
		dpkg -x postgresql-server-dev-*.deb headers
		# No OPTFLAGS: the default is for this very processor, and data directories move.
		for goal in all install; do
			make -j "$(nproc)" -C pgvector OPTFLAGS= with_llvm=no "PG_CONFIG=$bin/pg_config" \
				"includedir_server=$work/headers/usr/include/postgresql/$major/server" \
				"includedir_internal=$work/headers/usr/include/postgresql/internal" "$goal"
		done
	) >"$log" 2>&1 || {
		tail -n 20 "$log" >&2
		die "building pgvector failed: see above"
	}
}

install_system() {
	have apt-get || die "install by your system's own means: $(missing | paste -sd ';' | sed 's/;/; /g')"
	work=$(mktemp -d)
	log=$work/log
	[[ -n $(find_postgres) ]] || install_postgres
	local bin
	bin=$(find_postgres)
	[[ -n $bin ]] || die "PostgreSQL was installed, but its programs are not in PATH or /usr/lib/postgresql"
	postgres_has "$bin" pg_stat_statements || apt_install postgresql-contrib
	postgres_has "$bin" vector || install_pgvector "$bin"
	if [[ $browser = yes ]] && ! has_browser; then
		apt_install chromium
		has_browser || die "the chromium package has no /usr/bin/chromium: name a browser in CHROMIUM"
	fi
}

# The first compilation takes as long as all that follows, which mostly waits for the network. Only its cache is kept.
if [[ $system_only = no && -z ${NETRA_CHDB_LIB:-} && ! -d .netra/chdb/node_modules ]] && have go; then
	go build -buildvcs=false -o /dev/null ./cmd/netra >/dev/null 2>&1 &
	build=$!
fi

lacking=$(missing)
if [[ -n $lacking ]]; then
	again=("$PWD/scripts/setup.sh" --system)
	[[ $browser = no ]] || again+=(--browser)
	if [[ $(id -u) = 0 ]]; then
		install_system
	elif have sudo && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
		say "sudo: installing ${lacking//$'\n'/, }"
		sudo --preserve-env=NETRA_PG_BIN,CHROMIUM "${again[@]}"
	else
		die "missing: ${lacking//$'\n'/, }. As root, run: ${again[*]}"
	fi
fi
[[ $system_only = no ]] || exit 0

have node && have npm || die "missing: Node.js 20 or later with npm"

# Runs npm quietly; what it says matters only when it fails.
npm_quietly() { # directory, arguments
	local directory=$1 output
	shift
	output=$(npm --prefix "$directory" --no-audit --no-fund --no-update-notifier "$@" 2>&1) || {
		tail -n 20 <<<"$output" >&2
		die "npm $* failed in $directory: see above"
	}
}

# npm ci, unless what is installed is what the lock file says. The mark is made last, so that an interrupted installation
# is done again.
npm_ci() { # directory, what it is
	local mark=$1/node_modules/.netra-installed
	cmp -s "$1/package-lock.json" "$mark" && return
	say "installing $2 from npm"
	npm_quietly "$1" ci
	cp "$1/package-lock.json" "$mark"
}

if [[ -z ${NETRA_CHDB_LIB:-} ]]; then
	mkdir -p .netra/chdb
	for file in package.json package-lock.json; do
		cmp -s "embedded/chdb/$file" ".netra/chdb/$file" || cp "embedded/chdb/$file" ".netra/chdb/$file"
	done
	npm_ci .netra/chdb "the ClickHouse engine (about 540 MB)"
	# The packages are optional ones, one for each kind of machine: npm does not mind when none fits.
	compgen -G '.netra/chdb/node_modules/@chdb/*/libchdb.so' >/dev/null ||
		die "npm has no ClickHouse engine for $(uname -sm), or could not fetch it: name a libchdb.so in NETRA_CHDB_LIB"
fi

playground=web/playground
npm_ci $playground "the playground's packages"
built=$playground/dist/index.html
if [[ ! -f $built || -n $(find $playground web/client/src -path $playground/node_modules -prune -o -path $playground/dist -prune -o \
	-path $playground/test -prune -o -type f ! -name '*.go' -newer $built -print -quit) ]]; then
	say "building the playground"
	npm_quietly $playground run build
fi

# Where the client has been built before, as for its tests, what was built does not fall behind its source.
client=web/client
[[ $browser = no ]] || npm_ci $client "the live client's packages"
if [[ $browser = yes || -d $client/node_modules && -f $client/dist/index.js ]] &&
	[[ ! -f $client/dist/index.js || -n $(find $client/src -newer $client/dist/index.js -print -quit) ]]; then
	npm_quietly $client run build
fi

if [[ $peers == yes ]]; then
	npm_ci bench/peers/node "the servers that netra is measured beside (about 600 MB)"
fi

if [[ -n ${build:-} ]]; then
	say "compiling netra for the first time"
	# Whether it succeeds is told by the build that follows.
	wait "$build" || true
	build=
fi
