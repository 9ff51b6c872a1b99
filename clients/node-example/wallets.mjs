// A small client of the wallet-payment service: the contract is loaded from `protos` as it stands.
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import protobuf from "protobufjs";

const DETAILS = "grpc-status-details-bin";
const REPEATABLE = ["UNAVAILABLE", "ABORTED"];

// What an error's details are made of (google.rpc.Status and google.rpc.ErrorInfo).
const details = protobuf.parse(
  `
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  `,
  { keepCase: true },
).root;

/** Return a client of the servers at `target`, with `token()` in each call. */
export function connect(target, token, protos) {
  const loaded = loadSync("wallet_payment/v1/wallet_payment_service.proto", {
    includeDirs: [protos],
    keepCase: true,
    longs: String, // amounts are 64-bit integers: never let them become floats
    enums: String,
    defaults: true,
  });
  const { WalletPaymentService } = grpc.loadPackageDefinition(loaded).wallet_payment.v1;
  const client = new WalletPaymentService(target, grpc.credentials.createInsecure(), {
    "grpc.service_config": JSON.stringify(serviceConfig()),
    "grpc.keepalive_time_ms": 30_000,
  });
  const metadata = () => {
    const carried = new grpc.Metadata();
    carried.set("authorization", `Bearer ${token()}`);
    return carried;
  };
  return {
    /** Make a unary call; an error has the contract's `reason`. */
    call: (method, request) =>
      new Promise((resolve, reject) => {
        client[method](request, metadata(), { deadline: Date.now() + 10_000 }, (error, response) =>
          error ? reject(withReason(error)) : resolve(response),
        );
      }),
    /** Go through what happens, response by response; after a failure from the newest cursor. */
    watch: async function* (request) {
      let asked = request;
      for (let failures = 0; ; ) {
        const stream = client.WatchEvents(asked, metadata());
        try {
          for await (const response of stream) {
            failures = 0;
            asked = { ...asked, cursor: response.cursor, start_time: undefined };
            yield response;
          }
        } catch (error) {
          if (!["UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED"].includes(codeOf(error))) {
            throw withReason(error);
          }
          failures += 1;
          await new Promise((go) => setTimeout(go, Math.min(5_000, 100 * 2 ** failures)));
        } finally {
          stream.on("error", () => {}); // that it was cancelled is no news
          stream.cancel();
        }
      }
    },
    close: () => client.close(),
  };
}

function serviceConfig() {
  return {
    loadBalancingConfig: [{ round_robin: {} }],
    methodConfig: [
      {
        name: [{ service: "wallet_payment.v1.WalletPaymentService" }],
        retryPolicy: {
          maxAttempts: 4,
          initialBackoff: "0.1s",
          maxBackoff: "2s",
          backoffMultiplier: 2,
          retryableStatusCodes: REPEATABLE,
        },
      },
    ],
  };
}

function codeOf(error) {
  return grpc.status[error.code];
}

function withReason(error) {
  const [packed] = error.metadata?.get(DETAILS) ?? [];
  if (packed) {
    const status = details.lookupType("Status").decode(packed);
    const info = status.details.find((detail) => detail.type_url.endsWith("google.rpc.ErrorInfo"));
    error.reason = info && details.lookupType("ErrorInfo").decode(info.value).reason;
  }
  return error;
}
