// Connects with the token given as the argument.

import { baseURL } from './api.mjs';
import { connect } from './client.mjs';

const { client } = connect(baseURL.replace('http', 'ws') + '/connection/websocket', process.argv[2]);
await client.ready(10_000);
client.disconnect();
