'use strict';

// Checks the stage and its parameters before anything is built or deployed, and warns of what a
// deployment takes away. The rules are in rules.js.

const { OPTION, faults } = require('./rules');

const CHECKED = ['package', 'deploy', 'deploy function'];

class Checks {
  constructor(serverless, _options, { log }) {
    this.serverless = serverless;
    this.log = log;
    this.command = serverless.processedInput.commands.join(' ');
    this.hooks = {
      initialize: () => {
        this.check();
        this.warn();
      },
      finalize: () => this.warn(),
    };
  }

  // Before the framework looks at the values itself, because it stops at the first wrong one. What
  // it asks AWS for, such as ${ssm:...}, has no value yet, so `initialize` checks again.
  asyncInit() {
    this.check();
    this.writeOut();
  }

  // A parameter of CloudFormation is text, and not what YAML makes of an unquoted true or false.
  writeOut() {
    for (const params of [this.params.default, Object(this.params[this.stage])]) {
      for (const [name, value] of Object.entries(params)) {
        if (typeof value === 'boolean') params[name] = String(value);
      }
    }
  }

  check() {
    const { processedInput, classes, serviceDir } = this.serverless;
    if (processedInput.isHelpRequest || !CHECKED.includes(this.command)) return;
    const found = faults({
      stage: this.stage,
      options: this.options,
      values: this.values,
      known: Object.keys(this.params.default),
      executionSeconds: this.executionSeconds,
      folder: serviceDir,
    });
    if (!found.length) return;
    const message =
      ['Nothing was built or deployed, because this is wrong:', ...found].join('\n- ') +
      `\nParameters are in serverless.yml, in params under default and ${this.stage}, or come ` +
      'from --param. docs/configuration.md describes them.';
    throw new classes.Error(message, 'WRONG_PARAMETERS');
  }

  // At the beginning and at the end, where it is the last thing that is printed.
  warn() {
    if (this.command !== 'deploy') return;
    for (const warning of this.warnings()) {
      this.log.notice();
      this.log.warning(warning);
    }
  }

  warnings() {
    const { alarmEmail, scheduleEnabled } = this.values;
    const once = Object.keys(this.given);
    const yaml = (name) => `params: {${this.stage}: {${name}: ...}}`;
    return [
      String(scheduleEnabled) === 'true' &&
        !alarmEmail &&
        `NOBODY IS NOTIFIED if stage ${this.stage} fails: its schedule is on, and alarmEmail is ` +
          'empty.\nThis deployment removes the subscription of an earlier one.\n' +
          `Put the address into serverless.yml, ${yaml('alarmEmail')}, and deploy again.`,
      once.length &&
        `THE NEXT DEPLOYMENT FORGETS what --param says: ${once.join(', ')}.\n` +
          `To keep it, put it into serverless.yml, ${yaml(once[0])}.`,
    ].filter(Boolean);
  }

  get stage() {
    return this.serverless.getProvider('aws').getStage();
  }

  get params() {
    return this.serverless.configurationInput.params;
  }

  get options() {
    return this.serverless.processedInput.options.param ?? [];
  }

  // What they say.
  get given() {
    const pairs = this.options.map((option) => option.match(OPTION)?.slice(1)).filter(Boolean);
    return Object.fromEntries(pairs.map(([name, value]) => [name, value.trimEnd()]));
  }

  // The parameters that have a value by now, as the framework resolves them.
  get values() {
    const ofStage = Object.entries(Object(this.params[this.stage])).filter(
      ([, value]) => value != null,
    );
    const all = { ...this.params.default, ...Object.fromEntries(ofStage), ...this.given };
    const resolved = Object.entries(all).map(([name, value]) => [name, this.resolved(value)]);
    return Object.fromEntries(resolved.filter(([, value]) => !String(value).includes('${')));
  }

  resolved(value) {
    if (typeof value !== 'string') return value;
    const region = this.serverless.getProvider('aws').getRegion();
    return value.replaceAll('${sls:stage}', this.stage).replaceAll('${aws:region}', region);
  }

  get executionSeconds() {
    const { ingestion } = this.serverless.configurationInput.stepFunctions.stateMachines;
    return ingestion.definition.TimeoutSeconds;
  }
}

module.exports = Checks;
