'use strict';

// What the name of a stage and its parameters may be. The rules are AWS's, unless they say why not.

const { readdirSync, readFileSync } = require('node:fs');
const { join, posix } = require('node:path');

// Bucket, functions, state machine and alarms are named after the stage. A function's name may have
// 64 characters, which leaves 36. The subject of an alarm's email has 100, with the region's name:
// where that is longest, an alarm of ours is shown in full if the stage has at most 24.
const LONGEST_STAGE = 24;
const STAGE = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
const BUCKET = /^(?!.*\.\.)(?!(\d+\.){3}\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const RESERVED = /^(xn--|sthree-|amzn-s3-demo-)|(-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$/;
const ARN_OF_SECRET = /^arn:.*:secret:(.+)-\w{6}$/;
// The framework takes no others, although CloudWatch knows 1096, too.
const DAYS = [
  1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1827, 2192, 2557, 2922, 3288, 3653,
];
const CERTIFICATES = 'shared/rds-ca';
const OPTION = /^([^=]+)=(.+)$/s; // of --param

// Each rule takes a text and the checkout's folder. It returns what to give instead, or nothing.
const RULES = {
  bucketName: (text) =>
    (!BUCKET.test(text) || RESERVED.test(text)) &&
    '3 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit at both ends, ' +
      'and without the beginnings and endings that S3 reserves, such as xn-- and --x-s3',
  createBucket: oneOf(['true', 'false']),
  createLogGroups: oneOf(['true', 'false']),
  databaseSecret: secret,
  databaseCaFile: certificates,
  alarmEmail: orNone(
    like(/^[^\s@,;<>]+@[^\s@,;<>]+\.[^\s@,;<>]+$/, 'one email address, such as data@example.com'),
  ),
  alarmTopicKey: orNone(
    like(/^arn:aws[\w-]*:kms:[\w-]+:\d{12}:key\/[\w-]+$/, 'the ARN of a key of KMS'),
  ),
  scheduleEnabled: oneOf(['true', 'false']),
  subnetIds: orNone(ids('subnet', 16)),
  securityGroupIds: orNone(ids('sg', 5)),
  memoryMegabytes: wholeNumber(128, 10240),
  storageMegabytes: wholeNumber(512, 10240),
  timeoutSeconds: wholeNumber(1, 900),
  logRetentionDays: oneOf(DAYS.map(String)),
  batchRows: wholeNumber(1), // this and what follows as in the functions' Settings
  writerWaitSeconds: wholeNumber(0),
  statementTimeoutSeconds: wholeNumber(1),
  backlogSeconds: wholeNumber(0),
  createsOnly: oneOf(['true', 'false']),
  tombstones: oneOf(['true', 'false']),
  proofDays: wholeNumber(1),
  withoutChanges: orNone(tables),
};

function like(pattern, instead) {
  return (text) => !pattern.test(text) && instead;
}

function orNone(rule) {
  return (text, folder) => text !== '' && rule(text, folder);
}

function oneOf(values) {
  const either = new Intl.ListFormat('en', { type: 'disjunction' }).format(values);
  return (text) => !values.includes(text) && either;
}

function wholeNumber(least, most = Infinity) {
  const range = most === Infinity ? `, ${least} or more` : ` from ${least} to ${most}`;
  return (text) =>
    !(/^\d+$/.test(text) && Number(text) >= least && Number(text) <= most) &&
    `a whole number${range}`;
}

function ids(kind, most) {
  const id = `${kind}-([0-9a-f]{8}|[0-9a-f]{17})`;
  return like(
    new RegExp(`^${id}(,${id}){0,${most - 1}}$`),
    `at most ${most} ids like ${kind}-0123456789abcdef0, with commas and no spaces between them`,
  );
}

function secret(text) {
  // The roles may read a secret of this name, in this account and region.
  const [, name] = ARN_OF_SECRET.exec(text) ?? [];
  if (name) return `the secret's name instead of its ARN: ${name}`;
  return (
    !/^[\w/+=.@!-]{1,512}$/.test(text) &&
    "the secret's name: letters, digits and /_+=.@!-, without the hyphen and the six characters " +
      'at the end of its ARN'
  );
}

function certificates(text, folder) {
  // The path is a pattern of what is packaged, too, so there is one way to write it.
  const plain = posix.normalize(text) === text && !/^(\/|\.\.)|[*?[\]{}()!\\]/.test(text);
  if (plain && holdsCertificate(join(folder, text))) return undefined;
  const regions = readdirSync(join(folder, CERTIFICATES)).map((file) => file.split('.')[0]);
  return (
    "the path of a file of certificates in the checkout, from the checkout's folder. " +
    `${CERTIFICATES}/<region>.pem is there for ${regions.join(', ')}; those of other regions ` +
    'are at https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html'
  );
}

function holdsCertificate(path) {
  try {
    return readFileSync(path, 'utf8').includes('-----BEGIN CERTIFICATE-----');
  } catch {
    return false;
  }
}

function tables(text, folder) {
  if (text === 'all') return undefined;
  const known = readdirSync(join(folder, 'shared/contracts'))
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length));
  const named = text.split(',').map((name) => name.trim());
  return !named.every((name) => known.includes(name)) && `all, or some of ${known.join(',')}`;
}

function stageFault(stage) {
  const right = STAGE.test(stage) && stage.length <= LONGEST_STAGE;
  return (
    !right &&
    `The stage is '${stage}'. Give it a name of 1 to ${LONGEST_STAGE} lower-case letters, digits ` +
      'and hyphens, with a letter or digit at both ends: much is named after it.'
  );
}

function nameFault(name, known) {
  const [nearest] = [...known].sort((one, other) => distance(name, one) - distance(name, other));
  return `${name} is unknown. The nearest parameter is ${nearest}.`;
}

function valueFault(name, value, folder) {
  if (typeof value === 'object') return `${name} is a list or a mapping. Give text, with commas.`;
  const instead = RULES[name](String(value), folder);
  return instead && `${name} is '${value}'. Give ${instead}.`;
}

function optionFault(option) {
  return !option.match(OPTION) && `--param="${option}" has no name or no value. Give name=value.`;
}

// An execution has to outlive its last call, which begins after backlogSeconds at the latest.
function timeFault({ backlogSeconds, timeoutSeconds }, executionSeconds) {
  const longest = Number(backlogSeconds) + Number(timeoutSeconds);
  return (
    longest >= executionSeconds &&
    `backlogSeconds and timeoutSeconds are ${backlogSeconds} and ${timeoutSeconds}. ` +
        `Give values whose sum is less than the ${executionSeconds} seconds an execution may take.`
  );
}

function networkFault({ subnetIds, securityGroupIds }) {
  if (subnetIds === undefined || securityGroupIds === undefined) return undefined; // not known yet
  const [given, missing] = subnetIds
    ? ['subnetIds', 'securityGroupIds']
    : ['securityGroupIds', 'subnetIds'];
  return (
    Boolean(subnetIds) !== Boolean(securityGroupIds) &&
    `${given} has a value, but ${missing} has none. Give both or neither.`
  );
}

// Of Levenshtein: how many letters have to be added, removed or replaced.
function distance(one, other) {
  let row = [...Array(other.length + 1).keys()];
  for (const [i, letter] of [...one.toLowerCase()].entries()) {
    const next = [i + 1];
    for (const [j, wanted] of [...other.toLowerCase()].entries()) {
      next.push(Math.min(row[j] + (letter !== wanted), row[j + 1] + 1, next[j] + 1));
    }
    row = next;
  }
  return row.at(-1);
}

/**
 * Name everything that is wrong with a deployment.
 *
 * @param {object} asked its `stage`, `options` of --param, `values` by name, `known` names,
 *   `executionSeconds` and `folder`, the checkout's
 * @returns {string[]} one sentence for each fault, and what to do
 */
function faults({ stage, options, values, known, executionSeconds, folder }) {
  const ofStage = stageFault(stage);
  const named = Object.entries(values).filter(
    ([name, value]) => !(ofStage && name === 'bucketName' && value.startsWith?.(stage)),
  );
  return [
    ofStage,
    ...options.map(optionFault),
    ...named.map(([name, value]) =>
      known.includes(name) ? valueFault(name, value, folder) : nameFault(name, known),
    ),
    timeFault(values, executionSeconds),
    networkFault(values),
  ].filter(Boolean);
}

module.exports = { LONGEST_STAGE, OPTION, RULES, faults };
