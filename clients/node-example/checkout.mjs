// Tops up a wallet, pays an order, refunds it, and hears of all three: against `make up`.
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";

import { connect } from "./wallets.mjs";

const target = process.env.WALLET_TARGET ?? "127.0.0.1:50051";
const sandbox = process.env.WALLET_SANDBOX ?? "http://127.0.0.1:8090";
const protos = process.env.WALLET_PROTOS ?? fileURLToPath(new URL("../../protos", import.meta.url));
const token = process.env.TOKEN;
if (!token) {
  console.error("TOKEN is not set: TOKEN=$(wallet-payment token) node checkout.mjs");
  process.exit(2);
}

const wallets = connect(target, () => token, protos);
const customer_id = "customer-1";
const order_id = `node-${randomUUID()}`;
const inr = (minor_units) => ({ currency_code: "INR", minor_units });

// The first response says that the watch has begun.
const stream = wallets.watch({ customer_id });
await stream.next();

// A key belongs to the intent: made once, stored with it, the same for every repeat.
const { topup } = await wallets.call("InitiateTopup", {
  customer_id,
  amount: inr(50_000),
  gateway: "razorpay",
  method: "card",
  idempotency_key: randomUUID(),
});
console.log(`started  ${topup.topup_id}, ${topup.state}`);

// Here the customer pays at the gateway; its webhook credits the wallet.
const paidAtGateway = await fetch(`${sandbox}/sandbox/orders/${topup.gateway_order_id}/pay`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ wait: true }),
});
if (!paidAtGateway.ok) throw new Error(await paidAtGateway.text());

const key = randomUUID();
const payment = { customer_id, order_id, amount: inr(20_000), idempotency_key: key };
const paid = await wallets.call("PayWithWallet", payment);
const again = await wallets.call("PayWithWallet", payment);
console.log(`paid     ${order_id}, once: ${paid.transaction.hash === again.transaction.hash}`);

const refusal = await wallets
  .call("PayWithWallet", { ...payment, idempotency_key: randomUUID() })
  .catch((error) => error.reason);
console.log(`refused  ${refusal}`);

const { refund } = await wallets.call("RefundToWallet", {
  customer_id,
  order_id,
  idempotency_key: randomUUID(),
  reason: "the customer changed their mind",
});
console.log(`refunded ${refund.amount.minor_units} ${refund.amount.currency_code}`);

const heard = [];
while (heard.length < 3) {
  const { value } = await stream.next();
  for (const event of value.events) heard.push(event.type.replace("WALLET_EVENT_TYPE_", ""));
}
await stream.return();
console.log(`heard    ${heard.join(", ")}`);
wallets.close();
