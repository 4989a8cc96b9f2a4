# shellcheck shell=bash disable=SC2153,SC2154
# What install.sh does with an offline bundle (`parfocal bundle`): unpacks it, and refuses one that is not whole,
# not signed by a key that is trusted here, or made for another board. Sourced.

SIGNERS=$ETC/signers
IDENTITY=parfocal-bundle
new_signer='' # a file with the signer to trust from now on

# The folder of a bundle, unpacked first where it is a tar file.
bundle_folder() {
    [ -e "$1" ] || refuse "--bundle $1: no such file"
    if [ -d "$1" ]; then
        readlink -f "$1"
        return 0
    fi
    mkdir "$work/bundle"
    tar --extract --file "$1" --directory "$work/bundle" --no-same-owner --no-same-permissions 2>/dev/null ||
        refuse "--bundle $1: not a bundle: tar cannot read it"
    local found=("$work"/bundle/*)
    if [ ${#found[@]} -ne 1 ] || [ ! -d "${found[0]}" ]; then
        refuse "--bundle $1: not a bundle: one folder in it is allowed"
    fi
    echo "${found[0]}"
}

bundle_check() {
    local top=$1 name
    command -v ssh-keygen >/dev/null || refuse "ssh-keygen is missing, which checks the bundle: apt-get install openssh-client"
    for name in SHA256SUMS SHA256SUMS.sig bundle.info signer.pub; do
        [ -f "$top/$name" ] || refuse "$top: no $name; a bundle as \`parfocal bundle\` made it is allowed"
    done
    signature_check "$top"
    sums_check "$top"
    board_check "$top"
    [ -z "$new_signer" ] || [ -n "$bundle_key" ] || ask_signer
}

# --- who made it --------------------------------------------------------------------------------------------

signature_check() {
    if [ -s "$SIGNERS" ]; then
        [ -z "$bundle_key" ] || known_key
        signed_by "$SIGNERS" "$1" || refuse "$1: not signed by a key in $SIGNERS, or changed since"
        return 0
    fi
    new_signer=$work/signers
    signer_of "${bundle_key:-$1/signer.pub}" >"$new_signer"
    signed_by "$new_signer" "$1" || refuse "$1: not signed by the key in ${bundle_key:-$1/signer.pub}, or changed since"
    [ -n "$bundle_key" ] || [ -t 0 ] ||
        refuse "no key is trusted yet: --bundle-key FILE names the public key of whoever made the bundle ($(fingerprint))"
}

signed_by() {
    ssh-keygen -Y verify -f "$1" -I "$IDENTITY" -n "$IDENTITY" -s "$2/SHA256SUMS.sig" \
        <"$2/SHA256SUMS" >/dev/null 2>&1
}

# A public key file as a line of allowed signers (ssh-keygen(1)).
signer_of() {
    [ -f "$1" ] || refuse "--bundle-key $1: no such file"
    if ! [[ $(head -n 1 "$1" | tr -d '\0') =~ ^(ssh|sk-ssh|sk-ecdsa|ecdsa)- ]] || ! ssh-keygen -l -f "$1" >/dev/null 2>&1; then
        refuse "$1: not a public key; a file such as id_ed25519.pub is allowed"
    fi
    awk -v who="$IDENTITY" 'NR == 1 { print who, "namespaces=\"" who "\"", $1, $2 }' "$1"
}

known_key() {
    local line
    line=$(signer_of "$bundle_key")
    grep -qF -e "$(cut -d' ' -f 3- <<<"$line")" "$SIGNERS" ||
        refuse "--bundle-key $bundle_key: $SIGNERS trusts another key; remove that file to trust this one"
}

fingerprint() { cut -d' ' -f 3- "$new_signer" | ssh-keygen -l -f - | cut -d' ' -f 2; }

ask_signer() {
    local answer
    echo "This bundle was signed with the key $(fingerprint)."
    echo "Whoever made it can tell you whether that is theirs. It will be trusted here from now on, and no other."
    read -r -p "Trust it? [yes/no] " answer || true
    [ "$answer" = yes ] || refuse "the key $(fingerprint) is not trusted"
}

trust_signer() {
    [ -z "$new_signer" ] || put "$new_signer" "$SIGNERS"
}

# --- what is in it ------------------------------------------------------------------------------------------

# Every file is named in SHA256SUMS and is as it was, and there is nothing besides.
sums_check() (
    cd "$1" || exit
    local odd
    odd=$(find . ! -type f ! -type d -print -quit)
    [ -z "$odd" ] || refuse "$1: ${odd#./}: neither a file nor a folder"
    odd=$(grep -vE '^[0-9a-f]{64}  [A-Za-z0-9._+!-]+(/[A-Za-z0-9._+!-]+)*$' SHA256SUMS | head -n 1 || true)
    if [ -n "$odd" ] || grep -qE '(  |/)\.\.?(/|$)' SHA256SUMS; then
        refuse "$1: SHA256SUMS has a line that is no checksum"
    fi
    cut -c 67- SHA256SUMS | sort >"$work/named"
    find . -type f ! -path ./SHA256SUMS ! -path ./SHA256SUMS.sig -printf '%P\n' | sort >"$work/present"
    odd=$(comm -23 "$work/named" "$work/present" | head -n 1)
    [ -z "$odd" ] || refuse "$1: $odd is missing"
    odd=$(comm -13 "$work/named" "$work/present" | head -n 1)
    [ -z "$odd" ] || refuse "$1: $odd does not belong to the bundle"
    odd=$(sha256sum --check --quiet SHA256SUMS 2>/dev/null | head -n 1) || true
    [ -z "$odd" ] || refuse "$1: ${odd%%: *} was changed since the bundle was made"
)

info() { sed -n "s/^$1=//p" "$top/bundle.info"; }

board_check() {
    local python machine glibc
    python=$("$PYTHON" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    machine=$(uname -m)
    glibc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f 2)
    if [ "$python $machine" != "$(info python) $(info machine)" ] ||
        ! printf '%s\n' "$(info glibc)" "$glibc" | sort --version-sort --check=quiet; then
        refuse "$1 is for $(info board) (Python $(info python), $(info machine), glibc $(info glibc) or later); this is Python $python, $machine, glibc $glibc"
    fi
}
