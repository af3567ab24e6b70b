UPDATE "order" SET refunded = true WHERE quantity > 1;
