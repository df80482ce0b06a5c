#!/usr/bin/env bash
# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Build the collection's artefact, install it into a fresh folder, and prove there what its users rely on.
set -euo pipefail

checkout=$(cd "$(dirname "$0")/.." && pwd)
collection=$checkout/collections/ansible_collections/eternia/backup
build=$checkout/build/artefact
export PATH=$checkout/.venv/bin:$PATH

rm -rf "$build"
mkdir -p "$build"
cd "$build"
# Neither the checkout's ansible.cfg nor the user's, and no collection but the one that is installed here.
touch empty.cfg
export ANSIBLE_NOCOLOR=1 ANSIBLE_CONFIG=$build/empty.cfg ANSIBLE_HOME=$build/home ANSIBLE_COLLECTIONS_PATH=$build/installed

echo 'The changelog fragments are well-formed:'
(cd "$collection" && antsibull-changelog lint)

echo 'The artefact builds:'
ansible-galaxy collection build --output-path . "$collection"
artefact=$(echo eternia-backup-*.tar.gz)

echo 'It holds the files that git knows or would add, and nothing else:'
git_files() {
    (cd "$collection" && git ls-files --cached --others --exclude-standard) | grep -vx galaxy.yml
    printf '%s\n' FILES.json MANIFEST.json
}
diff <(git_files | sort) <(tar -tzf "$artefact" | grep -v '/$' | sort)
tar -tzf "$artefact" README.md CHANGELOG.md LICENSE meta/runtime.yml
tar -tzf "$artefact" | grep -v '/$' | grep / | cut -d/ -f1 | sort | uniq -c

echo 'It installs without a collection index:'
ansible-galaxy collection install --offline --collections-path installed "$artefact"
installed=$build/installed/ansible_collections/eternia/backup

echo 'Each module documents itself:'
for module in "$installed"/plugins/modules/*.py; do
    name=eternia.backup.$(basename "$module" .py)
    ansible-doc --type module "$name" > doc.txt
    for text in "$name ($module)" OPTIONS ATTRIBUTES AUTHOR EXAMPLES 'RETURN VALUES'; do
        grep -qF "$text" doc.txt || { echo "ansible-doc says nothing of '$text' for $name." >&2; exit 1; }
    done
    echo "  $name"
done

echo 'Each playbook is found by its full name:'
for playbook in "$installed"/playbooks/*.yml; do
    ansible-playbook --syntax-check --inventory "$checkout/inventories/production" "eternia.backup.$(basename "$playbook" .yml)"
done

echo 'The documentation refers to what there is, and builds:'
antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck --disallow-unknown-collection-refs "$collection"
mkdir docs
antsibull-docs collection --use-current --fail-on-error --dest-dir docs eternia.backup
# References into Ansible's own documentation (ref.ref) can be resolved only over the network.
sphinx-build -q -C -W --keep-going -D extensions=sphinx_antsibull_ext -D html_theme=alabaster \
    -D suppress_warnings=ref.ref docs/collections html

echo "Built $build/$artefact, and its documentation in $build/html."
