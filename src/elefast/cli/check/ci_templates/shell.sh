# any machine with Docker; without it: pip install "elefast[embedded]", and no server to start
# ${note}
docker run --detach --rm --name elefast-ci --publish 127.0.0.1:5432:5432 \
  ${environment} ${image}
trap 'docker stop elefast-ci' EXIT
export ELEFAST_ENGINE__URL=postgresql://postgres:${password}@127.0.0.1:5432/postgres
${install}
${test}
