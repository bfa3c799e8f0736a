'use strict';

// What is still to be done with the two zips when they are made.
//
// serverless-python-requirements 6.1.2 links the layer's zip into .serverless and does not wait for
// that, so who reads it next may find no such file: on some machines nine times of ten
// (https://github.com/serverless/serverless-python-requirements/pull/862). This waits.
//
// Then both get bytecode, see bytecode.py.

const { execFileSync } = require('node:child_process');
const { existsSync } = require('node:fs');
const { join, resolve } = require('node:path');
const { setTimeout } = require('node:timers/promises');

const LONGEST_WAIT_MS = 30_000;

class Zips {
  constructor(serverless) {
    this.serverless = serverless;
    this.hooks = {
      'after:package:createDeploymentArtifacts': () => this.finish(),
      'after:deploy:function:packageFunction': () => this.finish(),
    };
  }

  async finish() {
    const { service } = this.serverless;
    const layer = (service.layers ?? {}).pythonRequirements;
    const functions = service.getAllFunctions().map((name) => service.getFunction(name));
    const artifacts = functions.map((each) => each.package?.artifact ?? service.package.artifact);
    const zips = [layer?.artifact, ...new Set(artifacts)]
      .filter(Boolean)
      .map((artifact) => resolve(this.serverless.serviceDir, artifact));
    for (const zip of zips) await this.wait(zip);
    this.addBytecode(zips);
  }

  async wait(zip) {
    for (let waited = 0; !existsSync(zip); waited += 10) {
      if (waited > LONGEST_WAIT_MS) throw new Error(`${zip} is missing. Deploy again.`);
      await setTimeout(10);
    }
  }

  addBytecode(zips) {
    const script = join(__dirname, 'bytecode.py');
    const { runtime } = this.serverless.service.provider;
    const { pythonBin } = this.serverless.service.custom.pythonRequirements;
    try {
      execFileSync(pythonBin, [script, runtime, ...zips], { encoding: 'utf8', stdio: 'pipe' });
    } catch (error) {
      throw new Error(error.stderr || error.message);
    }
  }
}

module.exports = Zips;
