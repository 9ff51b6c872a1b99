"""The sandbox's checkout page, where a person pays what a top-up is for, or fails to.

`payable` is what an account has to tell; `stage` is how far an order has come, and what the page
says of it; `page` writes the HTML; `routes` serves it.
"""

from gateway_adapters.sandbox.checkout.payable import CheckoutAccount, Payable, PayableState
from gateway_adapters.sandbox.checkout.routes import CheckoutRoutes, Till

__all__ = ["CheckoutAccount", "CheckoutRoutes", "Payable", "PayableState", "Till"]
