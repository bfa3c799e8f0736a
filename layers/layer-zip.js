'use strict';

// serverless-python-requirements 6.1.2 links the layer's zip into .serverless and does not wait for
// that, so who reads it next may find no such file: on some machines nine times of ten
// (https://github.com/serverless/serverless-python-requirements/pull/862). This waits.

const { existsSync } = require('node:fs');
const { join } = require('node:path');
const { setTimeout } = require('node:timers/promises');

const LONGEST_WAIT_MS = 30_000;

class LayerZip {
  constructor(serverless) {
    this.serverless = serverless;
    this.hooks = { 'after:package:createDeploymentArtifacts': () => this.wait() };
  }

  async wait() {
    const layer = (this.serverless.service.layers ?? {}).pythonRequirements;
    if (!layer) return;
    const zip = join(this.serverless.serviceDir, layer.artifact);
    for (let waited = 0; !existsSync(zip); waited += 10) {
      if (waited > LONGEST_WAIT_MS) throw new Error(`${zip} is missing. Deploy again.`);
      await setTimeout(10);
    }
  }
}

module.exports = LayerZip;
