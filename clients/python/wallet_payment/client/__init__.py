"""A client of the wallet-payment service, for threads (`Client`) and for asyncio (`AsyncClient`).

    with Client(["10.0.0.1:50051", "10.0.0.2:50051"], token=read_token) as wallets:
        paid = wallets.pay("customer-1", "order-1", money("INR", 25_000), key=new_key())

Both retry what may be repeated, spread calls over the servers, and raise an error of `errors` for
each reason of the contract.
"""

from wallet_payment.client.blocking import Client
from wallet_payment.client.channels import Connection, Token
from wallet_payment.client.coroutines import AsyncClient
from wallet_payment.client.errors import WalletPaymentError
from wallet_payment.client.requests import money, new_key

__all__ = [
    "AsyncClient",
    "Client",
    "Connection",
    "Token",
    "WalletPaymentError",
    "money",
    "new_key",
]
