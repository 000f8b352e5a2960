#!/bin/sh
# Wheels, into .whl, of what step 5 needs and the lent machine has not: lm-eval with its needs, without the many
# packages that are there (KINDS.md of the tool `device`). Python 3.12, x86-64. Run from the repository's root.
set -eu
python=${PYTHON:-python3}
platforms=""
for name in manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux1_x86_64; do
    platforms="$platforms --platform $name"
done
rm -rf .whl
# shellcheck disable=SC2086
$python -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp $platforms -d .whl \
    lm-eval==0.4.13 datasets==5.2.0 evaluate==0.4.6 dill==0.4.1 multiprocess==0.70.19 more-itertools==11.2.1 \
    pytablewriter==1.2.1 DataProperty==1.1.1 mbstrdecoder==1.1.5 pathvalidate==3.3.1 tabledata==1.3.5 tcolorpy==0.1.7 \
    typepy==1.3.5 chardet==6.0.0.post1 nltk==3.10.4 defusedxml==0.7.1
# Source distributions alone, all of Python.
$python -m pip wheel -q --disable-pip-version-check --no-deps -w .whl rouge_score==0.1.2 sqlitedict==2.1.0 word2number==1.1
rm -rf .whl/out
du -sh .whl
